"""Choice of the replica for a request."""

from __future__ import annotations

import pytest

from onetrunk.core.serving.cluster.replica_choice import preferred_replicas


@pytest.mark.parametrize(
    ("calls", "expected"), [([0, 0, 0], "ab"), ([4, 5, 0], "a"), ([9, 7, 3], "b"), ([9, 9, 0], "")]
)
def test_a_replica_that_has_the_adapter_is_preferred_until_it_is_much_busier(
    calls: list[int], expected: str
) -> None:
    assert preferred_replicas(["a", "b"], dict(zip("abc", calls, strict=True))) == list(expected)
