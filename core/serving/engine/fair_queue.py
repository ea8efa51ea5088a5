"""A fair queue: every name gets an equal share of the tokens, however many items it has queued.

Start-time fair queueing (Goyal, Vin and Cheng 1996, doi:10.1145/248156.248171); for language models it is known as
virtual token counters (Sheng et al. 2024, arXiv:2401.00588). Each name has a counter of the tokens that it was
served. The next item is taken from the name with the lowest counter; the virtual time becomes this counter. The
counter of a new name starts at the virtual time, so that a name gets no more than its share after it was idle. A
name without items is forgotten when the virtual time reaches its counter.

A name is any hashable object; the service uses a `Flow`.

A name that floods the queue can be demoted: it then adds only a few tokens to the batches of the other names.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeAlias, TypeVar

DEMOTED_TOKENS = 16
"""Tokens that a demoted name may add to each batch on average: about one text."""
_RECENT_ITEMS = 256
"""Number of recently removed items that are inspected to find out whether they all belong to one name."""

T = TypeVar("T", bound=Hashable)
Name: TypeAlias = Hashable


@dataclass(slots=True, eq=False)
class _NameQueue(Generic[T]):
    """The items of one name.

    served: the counter of the name, in tokens.
    entry: number of the valid heap entry of the name.
    costs: tokens of each item, in the order in which they were queued.
    tokens: sum of `costs`.
    credit: tokens that the name may add to the next batch while it is demoted.
    """

    served: int
    entry: int = 0
    costs: OrderedDict[T, int] = field(default_factory=OrderedDict)
    tokens: int = 0
    credit: int = 0


class FairQueue(Generic[T]):
    """Queued items, by name. Not thread-safe: callers hold a lock.

    tokens: sum of the costs of all queued items.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._queues: dict[Name, _NameQueue[T]] = {}
        # (counter, entry, name); only the newest entry of a name is valid.
        self._heap: list[tuple[int, int, Name]] = []
        self._entries = count()
        self._virtual_time = 0
        self._count = 0
        self._recent: deque[Name] = deque(maxlen=_RECENT_ITEMS)  # names of the items removed last

    def __len__(self) -> int:
        return self._count

    def put(self, name: Name, cost: int, item: T, *, front: bool = False) -> None:
        """Append `item`, which costs `cost` tokens and must not be queued yet, to the items of `name`.

        front: put it before the other items of `name` instead.
        """
        if name not in self._queues:
            self._queues[name] = _NameQueue(self._virtual_time)
            self._push(name)
        queue = self._queues[name]
        queue.costs[item] = cost
        if front:
            queue.costs.move_to_end(item, last=False)
        queue.tokens += cost
        self.tokens += cost
        self._count += 1

    def drop(self, name: Name, item: T) -> bool:
        """Remove an item of `name`. Returns False if it is not queued."""
        if name not in self._queues or item not in self._queues[name].costs:
            return False
        self._remove(name, item)
        return True

    def charge(self, name: Name, tokens: int) -> None:
        """Add `tokens` to the counter of `name`; a negative number subtracts. Ignores a name that is not known."""
        if (queue := self._queues.get(name)) is not None:
            queue.served += tokens
            self._push(name)

    def is_alone(self, name: Name) -> bool:
        """Return whether all recently removed items belong to `name`."""
        return all(each == name for each in self._recent)

    def take(self, budget: int, demoted: Name | None = None) -> list[T]:
        """Remove and return items of at most `budget` tokens in total, or one item that costs more.

        A name gets at most half of a batch, unless all recently removed items belong to it. While one name has most
        of the queue, batches are therefore small, and new items wait less.

        demoted: a name that may add at most one item, on top of `budget`, and none if no other name has items.
        """
        taken = self._take(budget, demoted)
        aside = None if demoted is None else self._queues.get(demoted)
        if demoted is not None and aside is not None:
            if taken and aside.costs:
                item, cost = next(iter(aside.costs.items()))
                aside.credit = min(aside.credit + DEMOTED_TOKENS, cost)  # enough for one item at most
                if cost <= aside.credit:
                    aside.credit -= cost
                    taken.append(self._serve(demoted, item))
            aside.served = max(aside.served, self._virtual_time)
            self._push(demoted)
        return taken

    def take_some(self, budget: int, accept: Callable[[Name], bool]) -> list[T]:
        """Remove and return items of at most `budget` tokens, or one item that costs more.

        Only names for which `accept` returns True have a part in it. The time grows with the number of names.
        """
        taken: list[T] = []
        accepted = [each for each, queue in self._queues.items() if queue.costs and accept(each)]
        while accepted:
            name = min(accepted, key=lambda each: self._queues[each].served)
            item, cost = next(iter(self._queues[name].costs.items()))
            if taken and cost > budget:
                break
            budget -= cost
            self._virtual_time = max(self._virtual_time, self._queues[name].served)
            taken.append(self._serve(name, item))
            if not self._queues[name].costs:
                accepted.remove(name)
        return taken

    def _take(self, budget: int, excluded: Name | None) -> list[T]:
        """Remove and return items of at most `budget` tokens, of all names except `excluded`."""
        taken: list[T] = []
        left, total = budget, self.tokens
        shares: dict[Name, int] = {}
        taken_tokens: Counter[Name] = Counter()
        while self._count and (name := self._next_name(excluded)) is not None:
            queue = self._queues[name]
            item, cost = next(iter(queue.costs.items()))
            if name not in shares:  # half of the batch, or all of it if no other name is or was queued
                alone = queue.tokens == total and self.is_alone(name)
                shares[name] = budget if alone else max(DEMOTED_TOKENS, budget // 2)
            over_share = taken_tokens[name] and taken_tokens[name] + cost > shares[name]
            if taken and (cost > left or over_share):
                break
            left -= cost
            taken_tokens[name] += cost
            taken.append(self._serve(name, item))
        return taken

    def _next_name(self, excluded: Name | None) -> Name | None:
        """Return the name with the lowest counter that has items, and set the virtual time to this counter."""
        while self._heap:
            served, entry, name = self._heap[0]
            queue = self._queues.get(name)
            if name != excluded and queue is not None and queue.entry == entry:
                self._virtual_time = max(self._virtual_time, served)
                if queue.costs:
                    return name
                del self._queues[name]
            heappop(self._heap)
        return None

    def _push(self, name: Name) -> None:
        """Add an entry for a name to the heap, which makes its older entries invalid."""
        queue = self._queues[name]
        queue.entry = next(self._entries)
        heappush(self._heap, (queue.served, queue.entry, name))

    def _serve(self, name: Name, item: T) -> T:
        """Remove an item, and raise the counter of its name."""
        self._queues[name].served += self._remove(name, item)
        self._push(name)
        return item

    def _remove(self, name: Name, item: T) -> int:
        """Remove an item, and return its cost."""
        queue = self._queues[name]
        cost = queue.costs.pop(item)
        queue.tokens -= cost
        self.tokens -= cost
        self._count -= 1
        self._recent.append(name)
        return cost
