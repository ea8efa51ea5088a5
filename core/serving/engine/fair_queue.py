"""A fair queue: what waits is taken in turns of equal cost, whoever has put in how much.

Deficit round robin (Shreedhar and Varghese 1995, doi:10.1145/217382.217453): each flow with something waiting has
its turn and may take, in the long run, as many tokens a round as any other, whatever the sizes of its items.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

QUANTUM = 16
"""Tokens that a flow may take a turn: about one text, so that a batch has something of many flows."""

_LATELY = 256
"""Items that are looked back to know whether a flow is alone."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class QueueTicket(Generic[T]):
    """A place in the queue. item: None once it has left."""

    flow: str
    cost: int
    item: T | None


@dataclass(slots=True, eq=False)
class _Flow(Generic[T]):
    places: deque[QueueTicket[T]]
    deficit: int = 0
    in_turn: bool = False
    left: int = 0  # places whose item has left, still in `places`
    tokens: int = 0


class FairQueue(Generic[T]):
    """Items by flow. Not safe to share between threads: its user has the lock.

    tokens: the sum of the costs of what waits.
    """

    def __init__(self) -> None:
        self._flows: OrderedDict[str, _Flow[T]] = OrderedDict()  # the first has its turn
        self.tokens = 0
        self._count = 0
        self._lately: deque[str] = deque(maxlen=_LATELY)  # flows of what has left

    def __len__(self) -> int:
        return self._count

    def put(self, flow: str, cost: int, item: T) -> QueueTicket[T]:
        """Add `item`, which costs `cost` tokens, at the end of `flow`; return its place."""
        place = QueueTicket(flow, cost, item)
        own = self._flows.setdefault(flow, _Flow(deque()))
        own.places.append(place)
        own.tokens += cost
        self.tokens += cost
        self._count += 1
        return place

    def drop(self, place: QueueTicket[T]) -> bool:
        """Take an item out wherever it waits; return False where it has left already."""
        if place.item is None:
            return False
        flow = self._flows[place.flow]
        self._leave(flow, place)
        flow.left += 1
        if 2 * flow.left > len(flow.places):  # now and then, so that a drop costs a constant time
            flow.places = deque(each for each in flow.places if each.item is not None)
            flow.left = 0
            if not flow.places:
                del self._flows[place.flow]
        return True

    def charge(self, flow: str, tokens: int) -> None:
        """Have `flow` pay for tokens that it has had beyond what it was asked for; negative: give them back."""
        if (own := self._flows.get(flow)) is not None:
            own.deficit -= tokens

    def alone(self, flow: str) -> bool:
        """Whether nothing of any other flow has left of late."""
        return all(each == flow for each in self._lately)

    def take(self, budget: int, guest: str | None = None) -> list[T]:
        """Remove and return items of at most `budget` tokens in all, or one that costs more by itself.

        The turn goes on where it was, so that rounds span batches. A batch ends where a flow has had its share of
        it: where one flow has most of what waits, batches are small, and who comes next waits less.

        guest: a flow that has a turn for one item after those of the others, on top of `budget`; none where they
        have nothing.
        """
        aside = None if guest is None else self._flows.pop(guest, None)
        taken = self._take(budget)
        if guest is not None and aside is not None:
            self._flows[guest] = aside
            place = self._first(aside)
            if taken and place is not None:
                aside.in_turn = False
                aside.deficit = min(aside.deficit + QUANTUM, place.cost)  # saved for the next item alone
                if place.cost <= aside.deficit:
                    taken.append(self._pop(aside, place))
        return taken

    def _take(self, budget: int) -> list[T]:
        taken: list[T] = []
        passed = 0  # turns in a row that were too short
        room = budget
        total = self.tokens
        had: Counter[str] = Counter()
        shares: dict[str, int] = {}
        while self._flows:
            name, flow = next(iter(self._flows.items()))
            if name not in shares:
                shares[name] = self._share(name, budget, total - flow.tokens)
            if not flow.in_turn:
                flow.in_turn = True
                flow.deficit += QUANTUM
            place = self._first(flow)
            if place is None:
                del self._flows[name]  # and its deficit with it: who has nothing waiting saves nothing up
            elif place.cost > flow.deficit:
                flow.in_turn = False
                self._flows.move_to_end(name)
                passed += 1
                if passed >= len(self._flows):
                    passed = 0
                    self._skip_rounds()
            elif taken and (place.cost > room or (had[name] and had[name] + place.cost > shares[name])):
                break
            else:
                passed = 0
                room -= place.cost
                had[name] += place.cost
                taken.append(self._pop(flow, place))
        return taken

    def _skip_rounds(self) -> None:
        """Have the rounds at once in which nobody could take anything: who waits for long items has thousands."""
        firsts = [(flow, place) for flow in self._flows.values() if (place := self._first(flow)) is not None]
        rounds = min(-(-(place.cost - flow.deficit) // QUANTUM) for flow, place in firsts) - 1
        for flow, _ in firsts:
            flow.deficit += max(0, rounds) * QUANTUM

    def _share(self, name: str, budget: int, others: int) -> int:
        """Return how many tokens of a batch `name` may have where `others` wait.

        Half of it; all of it where there have been no others of late.
        """
        return budget if not others and self.alone(name) else max(QUANTUM, budget // 2)

    def _first(self, flow: _Flow[T]) -> QueueTicket[T] | None:
        while flow.places and flow.places[0].item is None:
            flow.places.popleft()
            flow.left -= 1
        return flow.places[0] if flow.places else None

    def _pop(self, flow: _Flow[T], place: QueueTicket[T]) -> T:
        """Take out the first item of a flow, which pays for it."""
        flow.places.popleft()
        flow.deficit -= place.cost
        return self._leave(flow, place)

    def _leave(self, flow: _Flow[T], place: QueueTicket[T]) -> T:
        item = place.item
        if item is None:
            raise RuntimeError(f"an item of flow {place.flow!r} was to leave the queue a second time")
        place.item = None
        self._lately.append(place.flow)
        self.tokens -= place.cost
        flow.tokens -= place.cost
        self._count -= 1
        return item
