"""Numbers as people read them, and lists of modules as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.cli.number_format import counted, duration, format_metric, size
from onetrunk.cli.options import ModuleList


@given(st.lists(st.sampled_from(["query", "value", "output"]), min_size=1))
def test_modules_are_read_once_each(names: list[str]) -> None:
    chosen = ModuleList().convert(" , ".join(names), None, None)
    assert chosen == tuple(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (counted(1, "row"), "1 row"),
        (counted(8, "row"), "8 rows"),
        (size(999), "999 B"),
        (size(4_690_000), "4.7 MB"),
        (size(999_950), "1.0 MB"),
        (duration(3.21), "3.2 s"),
        (duration(59.96), "1 min 00 s"),
        (duration(125.4), "2 min 05 s"),
        (duration(3725), "1 h 02 min"),
        (format_metric(None), "-"),
        (format_metric(7), "7"),
        (format_metric(0.5), "0.5000"),
    ],
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected
