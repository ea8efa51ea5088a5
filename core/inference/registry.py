"""The adapter registry: served names, loaded versions, and the requests that still use them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from onetrunk.adapters.format.artifact import read_id
from onetrunk.adapters.methods.bank import Bank
from onetrunk.adapters.methods.flat_layout import flattened
from onetrunk.adapters.methods.lora import Lora
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter, reload_lora
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.trunk.base import Trunk

Resolve = Callable[[str], StoredVersion]
"""Finds the version that a reference means now. Raises UnknownAdapter or ReferenceSyntaxError."""

Key = tuple[str, str]
"""A version (`ner@3`) and the id of its artifact: in a new store the same version may be another adapter."""


@dataclass(slots=True, eq=False)
class LoadedVersion:
    """A loaded version of an adapter.

    adapter: without its LoRA weights. The bank has these; this object is their key there.
    users: number of served names and requests that use it. `AdapterRegistry` counts them.
    """

    key: Key
    adapter: Adapter
    users: int = 0


@dataclass(frozen=True, slots=True)
class ServedName:
    """What a served name means.

    loaded: the version that answers.
    reference: the reference that was given to `load`.
    since: when this version began to answer under the name.
    """

    loaded: LoadedVersion
    reference: str
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def version(self) -> str:
        """The version that answers, such as `ner@3`."""
        return self.loaded.adapter.ref


class AdapterRegistry:
    """The served names of one trunk and their loaded versions. Thread-safe.

    A load reads and checks the adapter first, then replaces one entry. A version is dropped when no served name
    and no request uses it.

    memory: largest number of bytes of LoRA weights on the device, None for no bound.
    """

    def __init__(
        self, resolve: Resolve, host: PluginHost, backbone: Backbone, trunk: Trunk, memory: int | None
    ) -> None:
        self.bank = Bank(trunk.device, trunk.adapter_dtype, memory, memory)
        self._resolve, self._host, self._backbone, self._trunk = resolve, host, backbone, trunk
        self._served: Mapping[str, ServedName] = {}
        self._versions: dict[Key, LoadedVersion] = {}
        self._lock = threading.Lock()  # not held while files are read
        # The waiting loads and unloads of each name, in the order of the calls.
        self._loading: dict[str, deque[threading.Event]] = {}

    @property
    def served(self) -> Mapping[str, ServedName]:
        """The served names: a snapshot."""
        return self._served

    def load(
        self, reference: str, name: str, given_up: Callable[[], bool] = lambda: False
    ) -> tuple[ServedName, ServedName | None]:
        """Load and check the version that `reference` means now, and serve it as `name`.

        Loads of one name run one after the other, in the order of the calls.
        given_up: returns whether nobody waits for the load any more; it then raises UsageError.
        Returns the new entry and the one that it replaced, None if the name is new.
        Raises UnknownAdapter, ArtifactError, BackboneMismatch, AdapterRejected or UnknownTask, and changes nothing.
        """
        with self._exclusive(name):
            loaded = self._load(self._resolve(reference))
            with self._lock:
                if given_up():
                    self._drop_users([loaded])
                    raise UsageError(f"the load of {reference} was given up")
                new, before = ServedName(loaded, reference), self._served.get(name)
                self._served = {**self._served, name: new}
                self._drop_users([before.loaded] if before else [])
        if before is None or before.loaded.key != loaded.key:
            old = None if before is None else before.version
            self._host.notify("adapter_swapped", name=name, old=old, new=new.version)
        return new, before

    def unload(self, name: str) -> None:
        """Stop serving `name`. Raises UsageError if it is not served."""
        with self._exclusive(name), self._lock:
            (loaded,) = _find(self._served, [name])
            self._served = {key: own for key, own in self._served.items() if key != name}
            self._drop_users([loaded])
        self._host.notify("adapter_unloaded", name=name, old=loaded.adapter.ref)

    def hold(self, names: Sequence[str]) -> list[LoadedVersion]:
        """Return the versions that `names` serve now, and keep them loaded until `release`.

        Raises UsageError for a name that is not served.
        """
        with self._lock:
            held = _find(self._served, names)
            for loaded in held:
                loaded.users += 1
            return held

    def release(self, held: Iterable[LoadedVersion]) -> None:
        """Release the versions that `hold` returned."""
        with self._lock:
            self._drop_users(held)

    def adapters(self, held: Iterable[LoadedVersion]) -> list[Adapter]:
        """Return the adapters of held versions, with their LoRA weights on the device.

        An evicted adapter is read from the store again. Raises as `load` does.
        """
        chosen = list(held)
        loras = self.bank.get(chosen)
        return [replace(each.adapter, lora=loras[each]) for each in chosen]

    @contextmanager
    def in_use(self, names: Sequence[str]) -> Iterator[list[Adapter]]:
        """Keep `names` loaded during a block, and yield their adapters. Raises as `hold` and `load` do."""
        held = self.hold(names)
        try:
            yield self.adapters(held)
        finally:
            self.release(held)

    @contextmanager
    def _exclusive(self, name: str) -> Iterator[None]:
        """Run a block after all earlier loads and unloads of `name` have ended."""
        first = threading.Event()
        with self._lock:
            waiting = self._loading.setdefault(name, deque())
            waiting.append(first)
            waiting[0].set()
        try:
            first.wait()
            yield
        finally:
            with self._lock:
                waiting.remove(first)
                if waiting:
                    waiting[0].set()
                else:
                    del self._loading[name]

    def _load(self, stored: StoredVersion) -> LoadedVersion:
        """Return a version with one more user, loaded now unless it is loaded already."""
        key = (stored.ref, read_id(stored.path))
        with self._lock:
            if (loaded := self._versions.get(key)) is not None:
                loaded.users += 1
                return loaded
        artifact = stored.read()
        spec = self._host.task(artifact.manifest.task)
        adapter = load_adapter(stored.ref, artifact, spec, self._backbone, self._trunk, flattened)
        fresh = LoadedVersion((stored.ref, artifact.id), replace(adapter, lora=Lora({})))
        self.bank.install(fresh, adapter.lora, partial(reload_lora, stored, artifact.id, self._backbone))
        with self._lock:
            loaded = self._versions.setdefault(fresh.key, fresh)
            loaded.users += 1
        if loaded is not fresh:  # a load under another name has just installed the same version
            self.bank.remove(fresh)
        return loaded

    def _drop_users(self, versions: Iterable[LoadedVersion]) -> None:
        """Count one user less of each version and unload those without users. The caller holds the lock."""
        for loaded in versions:
            loaded.users -= 1
            if not loaded.users:
                del self._versions[loaded.key]
                self.bank.remove(loaded)


def _find(served: Mapping[str, ServedName], names: Sequence[str]) -> list[LoadedVersion]:
    """Return the versions that `names` serve. Raises UsageError for a name that is not served."""
    if missing := [name for name in names if name not in served]:
        wanted = repr(missing[0])
        raise UsageError(
            f"adapter {wanted} is not loaded; loaded: {', '.join(served) or 'none'}; call load({wanted}) first"
        )
    return [served[name].loaded for name in names]
