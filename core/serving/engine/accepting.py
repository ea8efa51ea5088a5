"""Which inputs can be answered: their bounds, and the adapters that serve when they come in."""

from __future__ import annotations

from collections.abc import Sequence

from onetrunk.core.errors import UsageError
from onetrunk.core.inference.registry import Resident, Residents
from onetrunk.core.serving.engine.errors import ServingError, TextTooLong, TooManyAdapters, UnknownName
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import PendingRequest, TextRequest, WorkItem


class RequestValidator:
    """Inputs to works that hold their adapters, which whoever ends a work releases."""

    def __init__(self, residents: Residents, limits: Limits) -> None:
        self._residents, self._limits = residents, limits

    def works(self, inputs: Sequence[TextRequest], pending: PendingRequest) -> list[WorkItem]:
        """Return the work of each input that can be answered; the others have their results in `pending` now."""
        works = []
        for index, given in enumerate(inputs):
            try:
                held = self._hold(given)
            except ServingError as error:
                pending.settle(index, error)
                continue
            if held:
                works.append(WorkItem.of(given, held, pending, index))
            else:
                pending.settle(index, [])
        return works

    def _hold(self, given: TextRequest) -> list[Resident]:
        """Return what serves each of the names of `given`, which it may repeat, once."""
        if len(given.text) > self._limits.characters:
            raise TextTooLong(len(given.text), self._limits.characters)
        if len(given.adapters) > self._limits.adapters:
            raise TooManyAdapters(len(given.adapters), self._limits.adapters)
        try:
            return self._residents.hold(given.names)
        except UsageError:
            posts = self._residents.posts
            missing = next((name for name in given.names if name not in posts), given.names[0])
            raise UnknownName(missing, sorted(posts)) from None
