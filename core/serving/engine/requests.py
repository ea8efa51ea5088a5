"""Records of a request: its texts, one work item for each text, and the results."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.registry import LoadedVersion
from onetrunk.core.serving.engine.fair_queue import QueueTicket
from onetrunk.core.tasks import Example, JSONObject

_BYTES_PER_TOKEN = 4
"""UTF-8 bytes of an average token; estimates the tokens of a text before it is tokenised."""


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A text and the served names of the adapters that answer it.

    adapters: may repeat a name; the answers then repeat, too.
    """

    text: str
    adapters: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names without repetitions, in the order requested."""
        return tuple(dict.fromkeys(self.adapters))


@dataclass(frozen=True, slots=True)
class AdapterAnswer:
    """The answer of one adapter to one text.

    adapter: the served name that was requested.
    version: the version that answered, such as `ner@3`.
    record: the decoded output; its keys depend on the task.
    """

    adapter: str
    version: str
    task: str
    record: JSONObject

    def to_json(self) -> JSONObject:
        """Return the answer as one flat object."""
        return {"adapter": self.adapter, "version": self.version, "task": self.task, **self.record}


Result: TypeAlias = list[AdapterAnswer] | OneTrunkError
"""The result of one text: an answer for each adapter, in the order requested, or the error."""


class PendingRequest:
    """Collects the results of a request. Used only on the event loop that was running when it was created.

    done: a future that completes when every result is there, or when the time limit is reached.
    left: results still missing.
    gone: True if the caller no longer waits, because it was cancelled or the time limit was reached.
    """

    def __init__(self, count: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.results: list[Result | None] = [None] * count
        self.left = count
        self.gone = False

    def settle(self, index: int, result: Result) -> None:
        """Store the result of a text; call this once for each text."""
        self.results[index] = result
        self.left -= 1
        if not self.left:
            self.end()

    def end(self) -> None:
        """Complete `done`, even if results are missing."""
        if not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class WorkItem:
    """One text and the loaded versions that answer it.

    The lists have one element for each distinct adapter, in the order requested.

    held: the loaded versions, which the registry keeps until they are released.
    costs: tokens; estimated until the text is tokenised.
    request, index: the request that the text belongs to, and its index there.
    queue_name: the served name under which the item waits in the fair queue.
    queued_at: when it entered the queue, in seconds of `time.perf_counter`.
    ticket: its ticket in the queue; None before it is queued.
    """

    text: str
    names: Sequence[str]
    held: Sequence[LoadedVersion]
    request: PendingRequest
    index: int
    costs: list[int]
    examples: list[Example] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    queue_name: str = ""
    queued_at: float = 0.0
    ticket: QueueTicket[WorkItem] | None = None

    @classmethod
    def from_text(
        cls, given: TextRequest, held: Sequence[LoadedVersion], request: PendingRequest, index: int
    ) -> WorkItem:
        """Return the item of a text, with estimated costs."""
        size = len(given.text) if given.text.isascii() else len(given.text.encode("utf-8", "surrogatepass"))
        estimate = size // _BYTES_PER_TOKEN + 2
        return cls(given.text, given.names, held, request, index, [estimate] * len(held))

    @property
    def charges(self) -> list[tuple[str, int]]:
        """Return pairs of a served name and its tokens."""
        return list(zip(self.names, self.costs, strict=True))

    def only(self, i: int) -> WorkItem:
        """Return a copy for the adapter with index `i` alone."""
        own = slice(i, i + 1)
        return replace(
            self,
            names=self.names[own],
            held=self.held[own],
            costs=self.costs[own],
            examples=self.examples[own],
            encoded=self.encoded[own],
        )


def repeat_answers(inputs: Sequence[TextRequest], results: Iterable[Result | None]) -> list[Result]:
    """Return the results with an answer for every requested name, repeated names included.

    results: of each text, with one answer for each distinct name.
    """
    repeated: list[Result] = []
    for given, result in zip(inputs, results, strict=True):
        if result is None:
            raise RuntimeError("a request ended before each of its texts had a result")
        if isinstance(result, list) and len(result) < len(given.adapters):
            by_name = {answer.adapter: answer for answer in result}
            result = [by_name[name] for name in given.adapters]
        repeated.append(result)
    return repeated
