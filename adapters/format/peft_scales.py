"""PEFT's ranks and scales: what `r`, `lora_alpha`, their patterns and `use_rslora` say of each module.

A pattern is a regular expression of a stranger's. One that could take very long to match is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.methods.lora import LowRank

_ONE_CHARACTER = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]", re.DOTALL)
"""What matches one character: an escape, or a set."""
_REPEAT = re.compile(r"[*+?{][?+]?")
_REPEATED_GROUP = re.compile(r"\)[*+?{]")
_LONGEST = 256
_MOST_REPEATS = 3
_MOST_REPEATS_OF_ALL = 64
_MOST_CHOICES = 32
_MOST_PATTERNS = 4096


class Scales:
    """What `adapter_config.json` says of ranks and scales. Raises ArtifactError for what cannot be read."""

    def __init__(self, where: Path, config: Mapping[str, Any]) -> None:
        self._where = where
        self._given = {key: config.get(key) for key in ("r", "lora_alpha")}
        self._stabilised = bool(config.get("use_rslora"))
        self._ranks = _Patterns(where, "rank_pattern", config.get("rank_pattern"))
        self._alphas = _Patterns(where, "alpha_pattern", config.get("alpha_pattern"))

    def update(self, name: str, path: str, pair: Mapping[str, Tensor]) -> LowRank:
        """Return the update of the module at `path` in the model that PEFT wraps, float32.

        name: of the module in messages; pair: its `A` and `B`. Raises ArtifactError for halves that do not belong
        together, and for a rank or an alpha that is no positive number.
        """
        given = {"r": self._ranks.of(path, self._given["r"])}
        given["lora_alpha"] = self._alphas.of(path, self._given["lora_alpha"])
        rank, alpha = (_positive(value) for value in given.values())
        if not isinstance(rank, int) or not rank or not alpha:
            shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
            raise ArtifactError(
                self._where, f"adapter_config.json: {shown} for {name}; expected positive numbers"
            )
        if set(pair) != {"A", "B"}:
            raise ArtifactError(
                self._where, f"adapter_model.safetensors has only lora_{next(iter(pair))} for {name}"
            )
        a, b = pair["A"], pair["B"]
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise ArtifactError(
                self._where, f"{name}: A is {tuple(a.shape)} and B {tuple(b.shape)}, but r is {rank}"
            )
        return LowRank(a.float(), b.float(), alpha / (math.sqrt(rank) if self._stabilised else rank))


class _Patterns:
    """Values of single modules: the first pattern that matches a module's path, or the end of it, counts."""

    def __init__(self, where: Path, option: str, value: Any) -> None:
        if value is not None and not isinstance(value, Mapping):
            raise ArtifactError(where, f"adapter_config.json: {option} is {value!r:.60}, expected an object")
        self._values: Mapping[str, Any] = value or {}
        if len(self._values) > _MOST_PATTERNS:
            raise ArtifactError(
                where, f"{option} has {len(self._values)} patterns, at most {_MOST_PATTERNS} are read"
            )
        repeats = 0
        self._patterns = {}
        for pattern in self._values:
            plain = _ONE_CHARACTER.sub("x", pattern)
            own = len(_REPEAT.findall(plain.replace("(?:", "(")))
            repeats += own
            if own > _MOST_REPEATS or repeats > _MOST_REPEATS_OF_ALL or _is_hard(pattern, plain):
                raise ArtifactError(
                    where,
                    f"{option} has the pattern {pattern[:60]!r}, which might take very long to match; write it "
                    "with fewer repeats and groups, or name the modules",
                )
            try:
                self._patterns[pattern] = re.compile(rf"(.*\.)?({pattern})$")  # as PEFT has it
            except (re.error, OverflowError) as error:
                raise ArtifactError(
                    where,
                    f"{option} has the pattern {pattern[:60]!r}, which is no regular expression: {error}",
                ) from error

    def of(self, path: str, default: Any) -> Any:
        """Return the value for the module at `path`."""
        found = next((pattern for pattern, own in self._patterns.items() if own.match(path)), path)
        return self._values.get(found, default)


def _is_hard(pattern: str, plain: str) -> bool:
    """Tell whether a pattern has what can make a match take exponential time; plain: with `x` for each set."""
    bare = plain.replace("(?:", "(")
    return (
        len(pattern) > _LONGEST
        or "(?" in bare
        or bare.count("(") > 1
        or bare.count("|") > _MOST_CHOICES
        or _REPEATED_GROUP.search(bare) is not None
    )


def _positive(value: Any) -> int | float:
    """Return `value`, or 0 for what is no positive number."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
