"""What a request is made of: inputs, the work that each is, and the results that they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.registry import LoadedVersion
from onetrunk.core.serving.engine.fair_queue import Place
from onetrunk.core.tasks import Example, JSONObject

_BYTES = 4
"""Of a token in UTF-8, about: what a text costs before it is tokenised."""


@dataclass(frozen=True, slots=True)
class Input:
    """A text, and the names of the adapters that it is asked of."""

    text: str
    adapters: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters without repetitions."""
        return tuple(dict.fromkeys(self.adapters))


@dataclass(frozen=True, slots=True)
class Answer:
    """What `version`, which served as `adapter`, says of a text; `record` is the task's own."""

    adapter: str
    version: str
    task: str
    record: JSONObject

    def to_json(self) -> JSONObject:
        """Return the answer as one flat object."""
        return {"adapter": self.adapter, "version": self.version, "task": self.task, **self.record}


Result: TypeAlias = list[Answer] | OneTrunkError
"""What comes of an input: an answer an adapter, in the order asked, or why there is none."""


class Pending:
    """The results of a request, as they come in; belongs to the running event loop. done: set with the last.

    gone: nobody waits for them any more.
    """

    def __init__(self, count: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.results: list[Result | None] = [None] * count
        self.left = count
        self.gone = False

    def settle(self, index: int, result: Result) -> None:
        """Take in the result of an input, each of which has one."""
        self.results[index] = result
        self.left -= 1
        if not self.left:
            self.end()

    def end(self) -> None:
        """Wait no longer."""
        if not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class Work:
    """One text for the adapters that it is asked of.

    names, held, costs, examples, encoded: of each adapter, in the order asked; costs: tokens, a guess at first.
    owner, index: whose result it is, and which. flow: in whose turn it waits.
    since: when it was put in the queue, on the clock of `time.perf_counter`.
    """

    text: str
    names: Sequence[str]
    held: Sequence[LoadedVersion]
    owner: Pending
    index: int
    costs: list[int]
    examples: list[Example] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    flow: str = ""
    since: float = 0.0
    place: Place[Work] | None = None

    @classmethod
    def of(cls, given: Input, held: Sequence[LoadedVersion], owner: Pending, index: int) -> Work:
        """Return the work of an input, its cost guessed."""
        size = len(given.text) if given.text.isascii() else len(given.text.encode("utf-8", "surrogatepass"))
        guess = size // _BYTES + 2
        return cls(given.text, given.names, held, owner, index, [guess] * len(held))

    @property
    def charges(self) -> list[tuple[str, int]]:
        """The tokens by name."""
        return list(zip(self.names, self.costs, strict=True))

    def only(self, i: int) -> Work:
        """Return the work of the adapter `i` alone."""
        own = slice(i, i + 1)
        return replace(
            self,
            names=self.names[own],
            held=self.held[own],
            costs=self.costs[own],
            examples=self.examples[own],
            encoded=self.encoded[own],
        )


def spread(inputs: Sequence[Input], results: Iterable[Result | None]) -> list[Result]:
    """Return results that answer each name once as answers to `inputs`, which may repeat names."""
    answers: list[Result] = []
    for given, result in zip(inputs, results, strict=True):
        if result is None:
            raise RuntimeError("a request was to be answered before each of its inputs had a result")
        if isinstance(result, list) and len(result) < len(given.adapters):
            by_name = {answer.adapter: answer for answer in result}
            result = [by_name[name] for name in given.adapters]
        answers.append(result)
    return answers
