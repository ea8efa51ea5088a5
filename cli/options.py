"""Options that several commands share. The training options take their defaults from `TrainSettings`.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from onetrunk.adapters.methods.target_modules import MODULES
from onetrunk.cli.threads import threads_option
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.training.epoch_choice import FEW_TO_STOP
from onetrunk.core.training.settings import (
    HEAD_LEARNING_RATE,
    LEARNING_RATES,
    MAX_EPOCHS,
    MAX_TOKENS,
    MIN_EPOCHS,
    MIN_TOKENS,
    PATIENCE,
    TrainSettings,
)

TRAIN_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Data": ("train_file", "dev_file", "test_file", *get_type_hints(ReadOptions)),
    "Adapter": ("name", "start", "plan", "promote"),
    "Model": ("backbone", "method", "pooling", "rank", "alpha", "targets", "layers", "max_windows"),
    "Optimisation": (
        "epochs",
        "batch_tokens",
        "optimizer",
        "lr",
        "head_lr",
        "weight_decay",
        "warmup",
        "dropout",
        "clip",
        "patience",
        "class_weights",
        "options",
        "seed",
    ),
    "Machine": ("device", "precision", "threads"),
}
"""Groups of the options of `adapters train` in its help, by title: names of parameters."""

Decorated = Callable[..., Any]
"""A function that click can decorate."""

_TRAINING = {
    "method": "What to train. lora: LoRA weights and a head; head: only a head; full: a copy of the whole encoder, "
    "as a baseline that is not stored.",
    "pooling": "How a text's token vectors become one vector; auto uses the setting of the backbone.",
    "rank": "Rank of the LoRA updates.",
    "alpha": "The LoRA updates are multiplied by alpha / rank.",
    "targets": f"Modules to adapt: all, or names separated by commas. Most encoders have {', '.join(MODULES)}.",
    "layers": "Layers to adapt: all, or last-K for the last K layers.",
    "optimizer": "Optimizer.",
    "lr": "Peak learning rate of the weights below the head.",
    "head_lr": "Peak learning rate of the head.",
    "weight_decay": "Weight decay.",
    "warmup": "Fraction (0 to 1) of all steps during which the learning rate rises; then it falls.",
    "epochs": "Maximum number of epochs.",
    "batch_tokens": "Maximum number of tokens in a batch.",
    "dropout": "Dropout probability of the LoRA updates and the head.",
    "clip": "Maximum gradient norm; 0 disables clipping.",
    "patience": "Stop after this many epochs without a better result on dev; 0 disables early stopping.",
    "max_windows": "Maximum number of windows of a training text. A window has as many tokens as the encoder has "
    "positions. Longer texts are divided at words or, if they have one label, cut.",
    "class_weights": "Weights of the labels in the loss. balanced: the inverse of the frequency of each label.",
    "seed": "Random seed; the same seed reproduces the same adapter.",
    "promote": "When the name means the new version. better: if it is not worse on the same data than the version "
    "that the name means now. NAME@latest is always the newest version.",
    "precision": "Precision of the frozen encoder; auto is bf16 if the device supports it natively, else fp32.",
}

_SHOWN_DEFAULTS = {
    "lr": ", ".join(f"{rate:g} for {method}" for method, rate in LEARNING_RATES.items()),
    "head_lr": f"{HEAD_LEARNING_RATE:g}",
    "targets": "all",
    "batch_tokens": f"{MAX_TOKENS}, down to {MIN_TOKENS} for small data sets",
    "epochs": f"{MIN_EPOCHS}, up to {MAX_EPOCHS} for small data sets",
    "patience": f"{PATIENCE}; 0 if dev has fewer than {FEW_TO_STOP} labels or entities",
}
"""Defaults that the field of `TrainSettings` does not have, because they depend on other settings."""


class GroupedCommand(click.Command):
    """A command whose `--help` lists the options in groups.

    groups: names of parameters by title. The options of no group are listed last.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Collection[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        left = {str(each.name): row for each in self.get_params(ctx) if (row := each.get_help_record(ctx))}
        for title, names in self.groups.items():
            if rows := [left.pop(name) for name in names if name in left]:
                with formatter.section(title):
                    formatter.write_dl(rows)
        with formatter.section("Other options"):
            formatter.write_dl(list(left.values()))


class ModuleList(click.ParamType[Any]):
    """A comma-separated list of modules, or `all`, converted to a tuple of names."""

    name = "modules"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names without duplicates. Raises BadParameter for an empty name."""
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        if "" in names:
            self.fail(f"a name is missing; known: all, {', '.join(MODULES)}", param, ctx)
        return names


def training_options(command: Decorated) -> Decorated:
    """Add an option for each field of `TrainSettings`, passed as an argument of the same name."""
    command = click.option(
        "--set",
        "options",
        multiple=True,
        metavar="KEY=VALUE",
        callback=_task_options,
        help="Option of the task, such as oos=off for intents. Can be repeated.",
    )(command)
    for field in reversed([each for each in fields(TrainSettings) if each.name != "options"]):
        name, default = field.name, _SHOWN_DEFAULTS.get(field.name, field.default)
        option, text = f"--{name.replace('_', '-')}", f"{_TRAINING[name]}  [default: {default}]"
        command = click.option(option, name, type=_type_of(name), default=field.default, help=text)(command)
    return command


def _task_options(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """Return the options of the task by name. Raises BadParameter for a part that is not KEY=VALUE."""
    options: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not key.strip() or not equals or key.strip() in options:
            raise click.BadParameter(f"{each!r} is not KEY=VALUE with a new key, such as oos=off")
        options[key.strip()] = value.strip()
    return options


def _type_of(name: str) -> Any:
    """Return the type of the option for the field `name`. `TrainSettings` checks the range of a number."""
    hint = get_type_hints(TrainSettings)[name]
    if name == "targets":
        return ModuleList()
    if name == "precision":
        return click.Choice(["auto", "fp32", "bf16"])
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    return next(iter(get_args(hint)), hint)  # `float` of `float | None`


device_option = click.option(
    "--device", default="auto", show_default=True, metavar="D", help="Device: auto, cpu, cuda or cuda:N."
)
"""Adds the option `--device`, passed as `device`."""


def backbone_option(
    default: str = "the backbone of the adapter; required if that was a local folder",
) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds `--backbone`, passed as `backbone`. default: the default, in words."""
    return click.option(
        "--backbone", metavar="B", help=f"Hub id or folder of the backbone.  [default: {default}]"
    )


def running_options(command: Decorated) -> Decorated:
    """Add the options of commands that run stored adapters: `--backbone --device --threads …`."""
    options: tuple[Callable[[Decorated], Decorated], ...] = (
        backbone_option(),
        device_option,
        threads_option,
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "int8"]),
            default="auto",
            show_default=True,
            help=f"{_TRAINING['precision']} int8 needs an x86 CPU. It is faster than fp32, but has small "
            "numerical errors.",
        ),
        click.option(
            "--batch-tokens",
            type=click.IntRange(min=1),
            help="Maximum number of tokens in a batch. Smaller batches need less memory.  "
            "[default: chosen for speed]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
