"""What the benchmark commands are asked for in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.layouts import LAYOUTS
from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE

_OPTIONS = (
    click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True),
    click.option(
        "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON file."
    ),
    click.option("--backbone", default=DEFAULT_BACKBONE, show_default=True),
    click.option("--layout", type=click.Choice(list(LAYOUTS)), help="Random weights in this layout instead."),
    click.option("--device", default="cpu", show_default=True),
    click.option(
        "--workloads",
        "patterns",
        default="*",
        show_default=True,
        help="Patterns of workloads, with commas.",
    ),
    click.option("--variants", default="*", show_default=True, help="Patterns of variants, with commas."),
    click.option("--skip", default="", help="Patterns of variants to leave out."),
    click.option(
        "--threads", type=click.IntRange(1), help="Threads of every variant; torch's own number by default."
    ),
    click.option(
        "--quick", "few", is_flag=True, help="A run of seconds that proves it works; figures mean nothing."
    ),
    click.option("--again", is_flag=True, help="Measure again what the output file has."),
)


def shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of every benchmark, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
