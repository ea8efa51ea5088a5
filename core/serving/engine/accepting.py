"""Which inputs can be answered: their bounds, and the adapters that serve when they come in."""

from __future__ import annotations

from collections.abc import Sequence

from onetrunk.core.errors import UsageError
from onetrunk.core.inference.registry import AdapterRegistry, LoadedVersion
from onetrunk.core.serving.engine.errors import ServingError, TextTooLong, TooManyAdapters, UnknownName
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Input, Pending, Work


class Accepting:
    """Inputs to works that hold their adapters, which whoever ends a work releases."""

    def __init__(self, registry: AdapterRegistry, limits: Limits) -> None:
        self._registry, self._limits = registry, limits

    def works(self, inputs: Sequence[Input], pending: Pending) -> list[Work]:
        """Return the work of each input that can be answered; the others have their results in `pending` now."""
        works = []
        for index, given in enumerate(inputs):
            try:
                held = self._hold(given)
            except ServingError as error:
                pending.settle(index, error)
                continue
            if held:
                works.append(Work.of(given, held, pending, index))
            else:
                pending.settle(index, [])
        return works

    def _hold(self, given: Input) -> list[LoadedVersion]:
        """Return what serves each of the names of `given`, which it may repeat, once."""
        if len(given.text) > self._limits.characters:
            raise TextTooLong(len(given.text), self._limits.characters)
        if len(given.adapters) > self._limits.adapters:
            raise TooManyAdapters(len(given.adapters), self._limits.adapters)
        try:
            return self._registry.hold(given.names)
        except UsageError:
            posts = self._registry.served
            missing = next((name for name in given.names if name not in posts), given.names[0])
            raise UnknownName(missing, sorted(posts)) from None
