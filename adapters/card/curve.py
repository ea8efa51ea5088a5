"""Draws the training curve: the loss and a metric on the dev split, by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

from onetrunk.adapters.card.markup import is_number
from onetrunk.adapters.format.strict_json import JSONObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 900, 450
"""Size of the picture in pixels."""

_DPI = 100
_LOSS_COLOR, _METRIC_COLOR = "#0072b2", "#d55e00"  # colour-blind readers can tell them apart
_LARGEST = 1e100  # matplotlib overflows with larger numbers
_LONGEST_NAME = 40


def training_curve(history: Sequence[JSONObject], metric: str) -> bytes | None:
    """Return a PNG of `WIDTH` x `HEIGHT`. Equal input gives equal bytes.

    history: the rows of `history.jsonl`; rows without an epoch or a loss are left out.
    metric: name of the dev metric.

    Returns None for fewer than two epochs, and if matplotlib is not installed.
    """
    rows = [row for row in history if _drawable(row.get("epoch")) and _drawable(row.get("loss"))]
    if len(rows) < 2 or find_spec("matplotlib") is None:
        return None
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own style would change the bytes
        stream = BytesIO()
        _drawn(rows, metric).savefig(stream, format="png", metadata={"Software": None})
        return stream.getvalue()


def _dev(row: JSONObject) -> dict[str, float]:
    dev = row.get("dev")
    return {name: value for name, value in dev.items() if _drawable(value)} if isinstance(dev, dict) else {}


def _drawable(value: Any) -> bool:
    return is_number(value) and abs(value) < _LARGEST


def _drawn(rows: Sequence[JSONObject], metric: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e0e0e0")
    _line(axes, rows, [row["loss"] for row in rows], "training loss", _LOSS_COLOR, "o")
    if any(metric in _dev(row) for row in rows):
        _draw_metric(axes.twinx(), rows, metric)
    return figure


def _draw_metric(axes: Axes, rows: Sequence[JSONObject], metric: str) -> None:
    values = [_dev(row).get(metric, float("nan")) for row in rows]
    shown = metric[:_LONGEST_NAME] if metric.isascii() and metric.isprintable() else "metric"
    _line(axes, rows, values, f"{shown} on dev", _METRIC_COLOR, "s")
    best = max((i for i, row in enumerate(rows) if row.get("best") is True), default=None)
    if best is not None and values[best] == values[best]:
        axes.plot(
            rows[best]["epoch"], values[best], "s", markersize=13, fillstyle="none", color=_METRIC_COLOR
        )
        title = f"best: {shown} {values[best]:.4g} after epoch {rows[best]['epoch']}"
        axes.set_title(title, loc="right", size="medium", color=_METRIC_COLOR, parse_math=False)


def _line(
    axes: Axes, rows: Sequence[JSONObject], values: list[float], label: str, color: str, marker: str
) -> None:
    axes.plot([row["epoch"] for row in rows], values, color=color, marker=marker, linewidth=2)
    axes.set_ylabel(label, color=color, parse_math=False)
    axes.tick_params(axis="y", labelcolor=color)
