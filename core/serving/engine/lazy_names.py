"""Names whose adapters are loaded at their first use, so that a service of many adapters starts at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.registry import AdapterRegistry, ServedName


class LazyNames:
    """The served names that are not loaded, and the order in which loaded ones are unloaded again.

    Belongs to one event loop.

    load: loads a reference under a name.
    unload: unloads a name.
    most: maximum number of loaded names.
    pending: references of the names that are not loaded.
    loading: whether `warm_up` runs.
    """

    def __init__(
        self,
        registry: AdapterRegistry,
        load: Callable[[str, str], Awaitable[object]],
        unload: Callable[[str], Awaitable[object]],
        most: int,
    ) -> None:
        self._registry, self._load, self._unload, self._most = registry, load, unload, most
        self.pending: dict[str, str] = {}
        self.loading = False
        self._used: dict[str, float] = {}
        self._kept: Counter[str] = Counter()

    async def warm_up(
        self, references: Mapping[str, str], loaded: Callable[[str, ServedName | OneTrunkError], None]
    ) -> None:
        """Serve names: load as many as may be loaded, the others at their first use.

        references: by name.
        loaded: called for each name with what is served, or with the error; the name is then not served.
        """
        self.pending |= references
        self.loading = True
        try:
            for name in references:
                if len(self._registry.served) >= self._most:
                    return
                if name in self.pending:
                    error = await self._ensure(name)
                    if error is not None:
                        self.pending.pop(name, None)
                        loaded(name, error)
                    elif name in self._registry.served:
                        loaded(name, self._registry.served[name])
        finally:
            self.loading = False

    async def ensure(self, names: Iterable[str]) -> dict[str, OneTrunkError]:
        """Load those of `names` that are not loaded yet. Returns the errors."""
        wanted = [name for name in dict.fromkeys(names) if name in self.pending]
        errors = await asyncio.gather(*(self._ensure(name) for name in wanted))
        return {name: error for name, error in zip(wanted, errors, strict=True) if error is not None}

    @contextmanager
    def keep(self, names: Collection[str]) -> Iterator[None]:
        """Keep the names that are loaded during a block, and record that they were used."""
        self._kept.update(names)
        try:
            yield
        finally:
            self._kept -= Counter(names)
            self._used |= dict.fromkeys(names, time.monotonic())

    async def make_room(self) -> None:
        """Unload the least recently used names until at most `most` are loaded."""
        while len(served := self._registry.served) > self._most:
            unused = [name for name in served if not self._kept[name]]
            if not unused:
                return
            oldest = min(unused, key=lambda name: self._used.get(name, 0.0))
            self.pending[oldest] = served[oldest].version  # the same version, also if an alias has moved
            try:
                await self._unload(oldest)
            except OneTrunkError:  # it was unloaded meanwhile
                self.pending.pop(oldest, None)

    async def _ensure(self, name: str) -> OneTrunkError | None:
        if name not in self.pending:
            return None
        try:
            await self._load(name, self.pending[name])
        except OneTrunkError as error:
            return error
        self.pending.pop(name, None)
        with self.keep([name]):
            await self.make_room()
        return None
