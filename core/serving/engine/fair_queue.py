"""A fair queue: every name gets an equal share of the tokens, however many items each has queued.

Deficit round robin (Shreedhar and Varghese 1995, doi:10.1145/217382.217453). The names with queued items are served
in rounds. In each round a name may take `QUANTUM` tokens; what it does not use stays its credit for the next round.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

QUANTUM = 16
"""Tokens of a name in one round: about one text, so that a batch mixes many names."""

_RECENT_ITEMS = 256
"""Recently removed items that are inspected to find out whether one name is alone."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class QueueTicket(Generic[T]):
    """A queued item. item: None after it has left the queue."""

    name: str
    cost: int
    item: T | None


@dataclass(slots=True, eq=False)
class _NameQueue(Generic[T]):
    """The items of one name.

    credit: tokens that the name may still take; negative if it took too many.
    in_round: whether it has received its quantum of this round.
    dropped: tickets in `tickets` whose item has left.
    tokens: sum of the costs of the queued items.
    """

    tickets: deque[QueueTicket[T]]
    credit: int = 0
    in_round: bool = False
    dropped: int = 0
    tokens: int = 0


class FairQueue(Generic[T]):
    """Items by name. Not thread-safe: callers hold a lock.

    tokens: sum of the costs of all queued items.
    """

    def __init__(self) -> None:
        self._queues: OrderedDict[str, _NameQueue[T]] = OrderedDict()  # the first is served next
        self.tokens = 0
        self._count = 0
        self._recent: deque[str] = deque(maxlen=_RECENT_ITEMS)  # names of the items that left last

    def __len__(self) -> int:
        return self._count

    def put(self, name: str, cost: int, item: T) -> QueueTicket[T]:
        """Append `item`, which costs `cost` tokens, to the items of `name`; return its ticket."""
        ticket = QueueTicket(name, cost, item)
        queue = self._queues.setdefault(name, _NameQueue(deque()))
        queue.tickets.append(ticket)
        queue.tokens += cost
        self.tokens += cost
        self._count += 1
        return ticket

    def drop(self, ticket: QueueTicket[T]) -> bool:
        """Remove an item; return False if it has already left the queue."""
        if ticket.item is None:
            return False
        queue = self._queues[ticket.name]
        self._leave(queue, ticket)
        queue.dropped += 1
        if 2 * queue.dropped > len(queue.tickets):  # rarely, so that a drop takes constant time on average
            queue.tickets = deque(each for each in queue.tickets if each.item is not None)
            queue.dropped = 0
            if not queue.tickets:
                del self._queues[ticket.name]
        return True

    def charge(self, name: str, tokens: int) -> None:
        """Reduce the credit of `name` by tokens that it used beyond the costs of its items; negative: raise it."""
        if (queue := self._queues.get(name)) is not None:
            queue.credit -= tokens

    def is_alone(self, name: str) -> bool:
        """Return whether all recently removed items belong to `name`."""
        return all(each == name for each in self._recent)

    def take(self, budget: int, demoted: str | None = None) -> list[T]:
        """Remove and return items of at most `budget` tokens in total, or one item that costs more.

        The round continues from batch to batch. A name gets at most half of a batch, unless it has been alone
        recently; batches are therefore small while one name has most of the queue, and new items wait less.

        demoted: a name that may add one item after those of the others, on top of `budget`; nothing if the others
        have no items.
        """
        aside = None if demoted is None else self._queues.pop(demoted, None)
        taken = self._take(budget)
        if demoted is not None and aside is not None:
            self._queues[demoted] = aside
            ticket = self._first(aside)
            if taken and ticket is not None:
                aside.in_round = False
                aside.credit = min(aside.credit + QUANTUM, ticket.cost)  # saves up for one item only
                if ticket.cost <= aside.credit:
                    taken.append(self._pop(aside, ticket))
        return taken

    def _take(self, budget: int) -> list[T]:
        taken: list[T] = []
        passed = 0  # names in succession whose credit was too small
        left = budget
        total = self.tokens
        taken_tokens: Counter[str] = Counter()
        shares: dict[str, int] = {}
        while self._queues:
            name, queue = next(iter(self._queues.items()))
            if name not in shares:
                shares[name] = self._share(name, budget, total - queue.tokens)
            if not queue.in_round:
                queue.in_round = True
                queue.credit += QUANTUM
            ticket = self._first(queue)
            if ticket is None:
                del self._queues[name]  # with its credit: a name without items saves nothing up
            elif ticket.cost > queue.credit:
                queue.in_round = False
                self._queues.move_to_end(name)
                passed += 1
                if passed >= len(self._queues):
                    passed = 0
                    self._skip_rounds()
            elif taken and (
                ticket.cost > left or (taken_tokens[name] and taken_tokens[name] + ticket.cost > shares[name])
            ):
                break
            else:
                passed = 0
                left -= ticket.cost
                taken_tokens[name] += ticket.cost
                taken.append(self._pop(queue, ticket))
        return taken

    def _skip_rounds(self) -> None:
        """Skip the rounds in which no name could take an item: long items would take thousands of rounds."""
        firsts = [
            (queue, ticket) for queue in self._queues.values() if (ticket := self._first(queue)) is not None
        ]
        rounds = min(-(-(ticket.cost - queue.credit) // QUANTUM) for queue, ticket in firsts) - 1
        for queue, _ in firsts:
            queue.credit += max(0, rounds) * QUANTUM

    def _share(self, name: str, budget: int, other_tokens: int) -> int:
        """Return the maximum tokens of `name` in a batch: half, or all if no other name was served recently."""
        return budget if not other_tokens and self.is_alone(name) else max(QUANTUM, budget // 2)

    def _first(self, queue: _NameQueue[T]) -> QueueTicket[T] | None:
        while queue.tickets and queue.tickets[0].item is None:
            queue.tickets.popleft()
            queue.dropped -= 1
        return queue.tickets[0] if queue.tickets else None

    def _pop(self, queue: _NameQueue[T], ticket: QueueTicket[T]) -> T:
        """Remove the first item of a name, and reduce its credit."""
        queue.tickets.popleft()
        queue.credit -= ticket.cost
        return self._leave(queue, ticket)

    def _leave(self, queue: _NameQueue[T], ticket: QueueTicket[T]) -> T:
        item = ticket.item
        if item is None:
            raise RuntimeError(f"an item of {ticket.name!r} left the fair queue twice")
        ticket.item = None
        self._recent.append(ticket.name)
        self.tokens -= ticket.cost
        queue.tokens -= ticket.cost
        self._count -= 1
        return item
