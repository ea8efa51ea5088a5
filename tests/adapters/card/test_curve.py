from __future__ import annotations

import struct
import sys
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from onetrunk.adapters.card.curve import HEIGHT, WIDTH, training_curve

ACCURACY = (0.5, 0.625, 0.75, 0.7)


def rows(**dev: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return a history whose best epochs are those in which the first metric grew."""
    history: list[dict[str, Any]] = []
    best = -1.0
    for i, first in enumerate(next(iter(dev.values()))):
        figures = {name: values[i] for name, values in dev.items()}
        history.append(
            {"epoch": i + 1, "step": 9 * i, "loss": 2 / (i + 1), "dev": figures, "best": first > best}
        )
        best = max(best, first)
    return history


HISTORY = rows(accuracy=ACCURACY)


def drawn(history: list[dict[str, Any]], metric: str = "accuracy") -> bytes:
    picture = training_curve(history, metric)
    assert picture is not None
    return picture


def test_it_is_a_light_png_of_the_right_size() -> None:
    image = Image.open(BytesIO(drawn(HISTORY)))
    assert (image.format, image.size) == ("PNG", (WIDTH, HEIGHT))
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_equal_histories_give_equal_bytes() -> None:
    assert drawn(HISTORY) == drawn([dict(reversed(row.items())) for row in HISTORY])


def test_a_users_own_style_changes_nothing() -> None:
    import matplotlib

    plain = drawn(HISTORY)
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 20, "axes.facecolor": "black"}):
        assert drawn(HISTORY) == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_the_picture_tells_neither_date_nor_software() -> None:
    picture, place, kinds = drawn(HISTORY), 8, []
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        kinds.append(picture[place + 4 : place + 8])
        place += length + 12
    assert set(kinds) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_loss_and_metric_are_both_drawn() -> None:
    other_loss = [{**row, "loss": 1.0} for row in HISTORY]
    other_dev = [{**row, "dev": {"accuracy": 0.5 + row["epoch"]}} for row in HISTORY]
    assert len({drawn(history) for history in (HISTORY, other_loss, other_dev)}) == 3


@pytest.mark.parametrize(
    "history", [[], HISTORY[:1], [HISTORY[0], {"epoch": 2}], [{"epoch": 1, "loss": None}] * 2]
)
def test_fewer_than_two_epochs_are_no_curve(history: list[dict[str, Any]]) -> None:
    assert training_curve(history, "accuracy") is None


def test_without_matplotlib_there_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert training_curve(HISTORY, "accuracy") is None


def test_the_metric_that_is_named_is_drawn() -> None:
    both = rows(accuracy=(0.1, 0.2), f1=(0.5, 0.9))
    assert drawn(both, "f1") != drawn(both, "accuracy")


def test_a_metric_that_no_epoch_has_is_left_out() -> None:
    assert drawn(HISTORY, "f1") == drawn([{**row, "dev": {}} for row in HISTORY])


@pytest.mark.parametrize("name", ["$x_{", "\\frac{", "a\nb", "日本", "", "x" * 5000])
def test_no_name_of_a_metric_breaks_the_drawing(name: str) -> None:
    assert drawn(rows(**{name: ACCURACY}), name)


@pytest.mark.parametrize("value", [1e99, -1e99, 1e-320, 10**400, float("nan"), None, "x", True, [1]])
def test_no_value_breaks_the_drawing(value: object) -> None:
    assert drawn([{**row, "dev": {"accuracy": value}} for row in HISTORY])
    assert drawn([*HISTORY, {**HISTORY[-1], "loss": value}])
    assert drawn([{**row, "dev": value} for row in HISTORY])
