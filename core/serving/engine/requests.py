"""Records of a request: its texts, a work item for each text, and the results."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.registry import LoadedVersion
from onetrunk.core.tasks import Example, JSONObject, Span


class Flow(NamedTuple):
    """The texts that share one queue: those of one client for one adapter. Flows are served in turns.

    client: name of the token, or address of the client; "" if it is not known.
    adapter: served name.
    long: whether these are the long texts of the client, which have a queue of their own.
    """

    client: str
    adapter: str
    long: bool = False


_NO_FLOW = Flow("", "")


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A text and the adapters that answer it.

    adapters: the names under which the adapters are served; a repeated name repeats its answer.
    client: who sent it, as in `Flow`.
    words: character spans of its words, in order; with (), each task splits the text into words.
    """

    text: str
    adapters: tuple[str, ...]
    client: str = ""
    words: tuple[Span, ...] = ()

    @classmethod
    def of_words(cls, words: Sequence[str], adapters: tuple[str, ...], client: str = "") -> TextRequest:
        """Return the request for a text whose words are known: the words, joined by single spaces."""
        ends = list(accumulate((len(word) + 1 for word in words), initial=0))
        spans = tuple((start, start + len(word)) for start, word in zip(ends, words, strict=False))
        return cls(" ".join(words), adapters, client, spans)

    @property
    def names(self) -> tuple[str, ...]:
        """The served names without repetitions, in the order requested."""
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

    done: completes when every result is there, or when the time limit is reached.
    results: the result of each text; an empty list until `settle` stores one.
    left: number of results that are missing.
    abandoned: True if the caller no longer waits, because it was cancelled or the time limit was reached.
    """

    def __init__(self, count: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.results: list[Result] = [[] for _ in range(count)]
        self.left = count
        self.abandoned = False

    def settle(self, index: int, result: Result) -> None:
        """Store the result of the text with this index. Call it once for each text."""
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

    Each list has one element for each distinct adapter, in the order requested.

    names: served names.
    held: loaded versions; the registry keeps them until they are released.
    request, index: the request that the text belongs to, and the index of the text in it.
    costs: tokens that are not computed yet; estimated until the text is tokenised.
    client, words: as in `TextRequest`.
    examples, encoded: the text as the task of each adapter splits it, and its tokens; empty until it is tokenised.
    long: whether the text is queued as a long text.
    flow: the queue in which the item waits.
    queued_at: the time of `time.perf_counter` at which the item entered the queue.
    """

    text: str
    names: Sequence[str]
    held: Sequence[LoadedVersion]
    request: PendingRequest
    index: int
    costs: list[int]
    client: str = ""
    words: tuple[Span, ...] = ()
    examples: list[Example] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    long: bool = False
    flow: Flow = _NO_FLOW
    queued_at: float = 0.0

    @property
    def flows(self) -> list[Flow]:
        """The flow of each adapter."""
        return [Flow(self.client, name, self.long) for name in self.names]

    @property
    def charges(self) -> list[tuple[Flow, int]]:
        """Pairs of a flow and its tokens."""
        return list(zip(self.flows, self.costs, strict=True))

    @property
    def cost(self) -> int:
        """The tokens for all adapters together."""
        return sum(self.costs)


def repeat_answers(inputs: Sequence[TextRequest], results: Iterable[Result]) -> list[Result]:
    """Return the results with an answer for every requested name, repeated names included.

    results: the result of each text, with one answer for each distinct name.
    """
    repeated: list[Result] = []
    for given, result in zip(inputs, results, strict=True):
        if isinstance(result, list) and len(result) < len(given.adapters):
            by_name = {answer.adapter: answer for answer in result}
            result = [by_name[name] for name in given.adapters]
        repeated.append(result)
    return repeated
