"""Which adapters serve, under which names, and what requests that have begun still hold of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from onetrunk.adapters.format.artifact import read_id
from onetrunk.adapters.methods.bank import Bank, Tier
from onetrunk.adapters.methods.flat_layout import flattened
from onetrunk.adapters.methods.lora import Lora
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter, reload_lora
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.trunk.packed import Trunk

Resolve = Callable[[str], StoredVersion]
"""Returns the version that a reference means now. Raises UnknownAdapter, ReferenceSyntaxError."""

Key = tuple[str, str]
"""A version, `ner@3`, and the id of its artifact, as the same number may be another adapter in a new store."""


@dataclass(slots=True, eq=False)
class Resident:
    """A version in service. adapter: without its updates; the bank has them, with this object as their key.

    users: the names that it serves under and the requests that hold it; `Residents` counts.
    """

    key: Key
    adapter: Adapter
    users: int = 0


@dataclass(frozen=True, slots=True)
class Post:
    """What serves under a name: `resident`, asked for as `reference`, since `since`."""

    resident: Resident
    reference: str
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def version(self) -> str:
        """The version that answers, `ner@3`."""
        return self.resident.adapter.ref


class Residents:
    """The adapters of one trunk that serve, by name. Safe to share between threads.

    A load reads and checks on the side and then replaces one reference. A version goes when no name means it any
    more and no request holds it.

    resolve: finds the version of a reference. memory: bytes for updates on the device, as for `OneTrunk`.
    """

    def __init__(
        self, resolve: Resolve, host: PluginHost, backbone: Backbone, trunk: Trunk, memory: int | None
    ) -> None:
        self.bank = Bank(trunk.device, trunk.adapter_dtype, memory, memory)
        self._resolve, self._host, self._backbone, self._trunk = resolve, host, backbone, trunk
        self._posts: Mapping[str, Post] = {}
        self._versions: dict[Key, Resident] = {}
        self._lock = threading.Lock()  # never held while anything is read
        self._loading: dict[str, deque[threading.Event]] = {}  # the first of a name has its turn

    @property
    def posts(self) -> Mapping[str, Post]:
        """What serves under each name, all of one moment."""
        return self._posts

    def load(self, reference: str, name: str) -> tuple[Post, Post | None]:
        """Load, check and put in service as `name` what `reference` means now; return it and what it replaced.

        Loads of one name take place one after the other, in the order they were asked for, or a slow one could undo
        a later one. Raises UnknownAdapter, ArtifactError, BackboneMismatch, AdapterRejected or UnknownTask; then
        nothing has changed.
        """
        with self._turn(name):
            resident = self._resident(self._resolve(reference))
            with self._lock:
                post, before = Post(resident, reference), self._posts.get(name)
                self._posts = {**self._posts, name: post}
                self._let_go([before.resident] if before else [])
        if before is None or before.resident.key != resident.key:
            old = None if before is None else before.version
            self._host.notify("adapter_swapped", name=name, old=old, new=post.version)
        return post, before

    def unload(self, name: str) -> None:
        """Take `name` out of service. Raises UsageError if it is not loaded."""
        with self._turn(name), self._lock:
            posts = dict(self._posts)
            (resident,) = known(posts, [name])
            del posts[name]
            self._posts = posts
            self._let_go([resident])
        self._host.notify("adapter_unloaded", name=name, old=resident.adapter.ref)

    def hold(self, names: Sequence[str]) -> list[Resident]:
        """Return what serves under `names` now; it stays until `release`. Raises UsageError for an unknown name."""
        with self._lock:
            held = known(self._posts, names)
            for resident in held:
                resident.users += 1
            return held

    def release(self, held: Iterable[Resident]) -> None:
        """Give back what `hold` returned."""
        with self._lock:
            self._let_go(held)

    def adapters(self, held: Iterable[Resident]) -> list[Adapter]:
        """Return the adapters of what is held with their updates on the device.

        Raises what reading an evicted one from the store again can raise.
        """
        chosen = list(held)
        loras = self.bank.get(chosen)
        return [replace(each.adapter, lora=loras[each]) for each in chosen]

    @contextmanager
    def in_use(self, names: Sequence[str]) -> Iterator[list[Adapter]]:
        """Yield the adapters of `names`, held for as long as the block runs."""
        held = self.hold(names)
        try:
            yield self.adapters(held)
        finally:
            self.release(held)

    def tier(self, resident: Resident) -> Tier:
        """Return where the updates of a held or serving version are now."""
        return self.bank.tier(resident)

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """Wait until all that was asked of `name` before has ended."""
        turn = threading.Event()
        with self._lock:
            line = self._loading.setdefault(name, deque())
            line.append(turn)
            line[0].set()
        try:
            turn.wait()
            yield
        finally:
            with self._lock:
                line.remove(turn)
                if line:
                    line[0].set()
                else:
                    del self._loading[name]

    def _resident(self, stored: StoredVersion) -> Resident:
        """Return a version with one more user: the one in service, or else read, checked and put into the bank."""
        key = (stored.ref, read_id(stored.path))
        with self._lock:
            if (loaded := self._versions.get(key)) is not None:
                loaded.users += 1
                return loaded
        artifact = stored.read()
        spec = self._host.task(artifact.manifest.task)
        adapter = load_adapter(stored.ref, artifact, spec, self._backbone, self._trunk, flattened)
        fresh = Resident((stored.ref, artifact.id), replace(adapter, lora=Lora({})))
        self.bank.install(fresh, adapter.lora, partial(_reload, stored, artifact.id, self._backbone))
        with self._lock:
            resident = self._versions.setdefault(fresh.key, fresh)
            resident.users += 1
        if resident is not fresh:  # another name has loaded the same version meanwhile
            self.bank.remove(fresh)
        return resident

    def _let_go(self, residents: Iterable[Resident]) -> None:
        """Count one user less of each, and forget those that nobody uses; the caller holds the lock."""
        for resident in residents:
            resident.users -= 1
            if not resident.users:
                del self._versions[resident.key]
                self.bank.remove(resident)


def known(posts: Mapping[str, Post], names: Sequence[str]) -> list[Resident]:
    """Return what serves under `names`. Raises UsageError for one that is not loaded."""
    if missing := [name for name in names if name not in posts]:
        wanted = repr(missing[0])
        raise UsageError(
            f"adapter {wanted} is not loaded; loaded: {', '.join(posts) or 'none'}; call load({wanted}) first"
        )
    return [posts[name].resident for name in names]


def _reload(stored: StoredVersion, identity: str, backbone: Backbone) -> Lora:
    """Return the updates of an evicted adapter, from the artifact that it was loaded from."""
    return reload_lora(stored.ref, stored.read(), identity, backbone)
