"""Options that several commands share. Those of training take their defaults from `TrainSettings`, the only
place where they stand. No torch is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from onetrunk.adapters.methods.target_modules import MODULES
from onetrunk.core.training.settings import (
    HEAD_LEARNING_RATE,
    LEARNING_RATES,
    MAX_EPOCHS,
    MAX_TOKENS,
    MIN_EPOCHS,
    MIN_TOKENS,
    TrainSettings,
)

Decorated = Callable[..., Any]
"""What click decorates: the function of a command, or what another decorator made of it."""

_TRAINING = {
    "method": "What to train: LoRA and a head, the head alone, or the full encoder as a baseline.",
    "pooling": "How a text becomes one vector; auto is what the backbone declares.",
    "rank": "Rank of the LoRA updates.",
    "alpha": "The updates are scaled by alpha / rank.",
    "targets": "Modules to adapt, with commas: all, or some of "
    + ", ".join(MODULES)
    + "; some encoders have others.",
    "layers": "Layers to adapt: all, or last-K.",
    "optimizer": "How the weights are updated.",
    "lr": "Peak learning rate.",
    "head_lr": "Peak learning rate of the head.",
    "weight_decay": "Weight decay.",
    "warmup": "Share of all steps over which the learning rates rise.",
    "epochs": "Passes over the training data, at most.",
    "batch_tokens": "Tokens in a batch.",
    "dropout": "Probability of dropout on the updates and in the head.",
    "clip": "Largest norm of the gradient; 0 leaves it as it is.",
    "patience": "Epochs without a better dev result before stopping; 0 never stops early.",
    "class_weights": "Weigh labels by the inverse of their frequency, or not.",
    "seed": "Start of all randomness; the same seed gives the same adapter.",
    "precision": "Precision of the frozen trunk; auto is bf16 where the device computes in it natively.",
}

_SHOWN_DEFAULTS = {
    "lr": ", ".join(f"{rate:g} for {method}" for method, rate in LEARNING_RATES.items()),
    "head_lr": f"{HEAD_LEARNING_RATE:g}",
    "targets": "all",
    "batch_tokens": f"{MAX_TOKENS}, and down to {MIN_TOKENS} where data are few",
    "epochs": f"{MIN_EPOCHS}, and up to {MAX_EPOCHS} where data are few",
}
"""Defaults that depend on other settings, or read better in words."""

_CHOICES = {"precision": click.Choice(["auto", "fp32", "bf16"])}


class ModuleList(click.ParamType[Any]):
    """Modules to adapt, with commas between them, or `all`; becomes a tuple of names."""

    name = "modules"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, each once; which there are is the backbone's to say. Raises BadParameter for none."""
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        if "" in names:
            self.fail(f"a name is missing; known: all, {', '.join(MODULES)}", param, ctx)
        return names


def training_options(command: Decorated) -> Decorated:
    """Give a command an option for each field of `TrainSettings`, as an argument of the field's name."""
    for name in reversed(_TRAINING):
        command = _training_option(name)(command)
    return command


def _training_option(name: str) -> Decorated:
    default = next(field.default for field in fields(TrainSettings) if field.name == name)
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        type=_type_of(name),
        default=default,
        show_default=_SHOWN_DEFAULTS.get(name, True),
        help=_TRAINING[name],
    )


def _type_of(name: str) -> click.ParamType[Any]:
    """Return how click reads the field `name`; whether a number makes sense is for `TrainSettings` to say."""
    hint = get_type_hints(TrainSettings)[name]
    if name == "targets":
        return ModuleList()
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    kinds: dict[Any, click.ParamType[Any]] = {
        int: click.INT,
        float: click.FLOAT,
        float | None: click.FLOAT,
        int | None: click.INT,
    }
    return _CHOICES.get(name) or kinds.get(hint, click.STRING)


def device_option(command: Decorated) -> Decorated:
    """Give a command `--device` as `device`."""
    option = click.option(
        "--device", default="auto", show_default=True, metavar="D", help="auto, cpu, cuda or cuda:N."
    )
    return option(command)


def running_options(command: Decorated) -> Decorated:
    """Give a command that runs stored adapters `--backbone --device --precision --batch-tokens`."""
    options = (
        click.option(
            "--backbone",
            metavar="B",
            help="Hub id or folder of the backbone.  [default: the adapter's own, unless that was a folder]",
        ),
        device_option,
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "int8"]),
            default="auto",
            show_default=True,
            help=f"{_TRAINING['precision']} int8 is for x86 CPUs: faster than fp32, with small errors.",
        ),
        click.option(
            "--batch-tokens",
            type=click.IntRange(min=1),
            help="Tokens in a batch; fewer need less memory.  [default: what is fastest on most machines]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
