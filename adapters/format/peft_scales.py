"""Ranks and scales of modules in PEFT's `adapter_config.json`: `r`, `lora_alpha`, their patterns and `use_rslora`.

The keys of `rank_pattern` and `alpha_pattern` are regular expressions. Those of an untrusted file could take
exponential time to match, so matching the patterns of one option takes at most `_MOST_SECONDS` of CPU time.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import regex
from torch import Tensor

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.artifact import CONFIG, MODEL
from onetrunk.adapters.methods.lora import LowRank

_MOST_SECONDS = 1.0
_MOST_PATTERNS = 1024
_LONGEST_PATTERN = 1024


class Scales:
    """The ranks and scales in `config`, the content of `adapter_config.json`. where: its folder, for messages.

    Raises ArtifactError for patterns that cannot be read.
    """

    def __init__(self, where: Path, config: Mapping[str, Any]) -> None:
        self._where = where
        self._stabilised = bool(config.get("use_rslora"))
        self._ranks = _Patterns(where, config, "rank_pattern", config.get("r"))
        self._alphas = _Patterns(where, config, "alpha_pattern", config.get("lora_alpha"))

    def update(self, name: str, path: str, pair: Mapping[str, Tensor]) -> LowRank:
        """Return the low-rank update of one module in float32.

        name: the module's name in messages.
        path: dotted path of the module in the model that PEFT wraps.
        pair: the matrices `A` (rank, d_in) and `B` (d_out, rank) by these letters.

        Raises ArtifactError if a matrix is missing, if a shape does not fit the rank, or if rank or alpha is not a
        positive number.
        """
        rank, alpha = self._ranks.of(path), self._alphas.of(path)
        if not _is_positive(rank) or not isinstance(rank, int) or not _is_positive(alpha):
            why = f"{CONFIG}: r={rank!r}, lora_alpha={alpha!r} for {name}; expected positive numbers"
            raise ArtifactError(self._where, why)
        if set(pair) != {"A", "B"}:
            raise ArtifactError(self._where, f"{MODEL} has only lora_{next(iter(pair))} for {name}")
        a, b = pair["A"], pair["B"]
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            why = f"{name}: A is {tuple(a.shape)} and B {tuple(b.shape)}, but r is {rank}"
            raise ArtifactError(self._where, why)
        return LowRank(a.float(), b.float(), alpha / (math.sqrt(rank) if self._stabilised else rank))


class _Patterns:
    """The values of an option by pattern. The first pattern that matches a module's path, or its end, counts."""

    def __init__(self, where: Path, config: Mapping[str, Any], option: str, default: Any) -> None:
        values = {} if config.get(option) is None else config[option]
        if not isinstance(values, Mapping):
            raise ArtifactError(where, f"{CONFIG}: {option} is {values!r:.60}, expected an object")
        if len(values) > _MOST_PATTERNS:
            why = f"{option} has {len(values)} patterns, at most {_MOST_PATTERNS} are read"
            raise ArtifactError(where, why)
        self._where, self._option, self._values, self._default = where, option, values, default
        self._patterns = {key: self._compiled(key) for key in values}
        self._seconds_left = _MOST_SECONDS

    def of(self, path: str) -> Any:
        found = next((key for key in self._patterns if self._matches(key, path)), path)
        return self._values.get(found, self._default)

    def _compiled(self, key: str) -> regex.Pattern[str]:
        if len(key) > _LONGEST_PATTERN:
            raise self._fault(key, f"has {len(key)} characters, at most {_LONGEST_PATTERN} are read")
        whole = rf"(.*\.)?({key})$"  # PEFT uses this expression, with `re`
        try:
            re.compile(whole)
            return regex.compile(whole)
        except (re.error, regex.error, OverflowError, RecursionError) as error:
            raise self._fault(key, f"is not a regular expression: {error}") from error

    def _matches(self, key: str, path: str) -> bool:
        started = time.thread_time()
        try:
            found = self._patterns[key].match(path, timeout=max(self._seconds_left, 0.01))
        except TimeoutError as error:
            raise self._fault(key, "takes too long to match; name the modules instead") from error
        self._seconds_left -= time.thread_time() - started
        return found is not None

    def _fault(self, key: str, why: str) -> ArtifactError:
        return ArtifactError(self._where, f"{CONFIG}: the pattern {key[:60]!r} of {self._option} {why}")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
