"""The deployment around `NameService`. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.serve.handle import DeploymentHandle

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.serving.cluster.name_service import NameService
from onetrunk.core.serving.cluster.name_table import NameEntry, NameTable, TableUpdate
from onetrunk.core.serving.cluster.ray_retry import call_with_retry
from onetrunk.core.serving.engine.errors import UnknownName


class NameServiceDeployment:
    """Keeps the names, and has `replicas` load what is to serve under them; each method is as `Names` has it.

    adapters: the first references by name; None for all of the store.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, replicas: DeploymentHandle, adapters: Mapping[str, str] | None, origin: str
    ) -> None:
        self._replicas = replicas
        self._names = NameService(self._load, origin)
        first = adapters
        if first is None:
            first = {name: name for name in await call_with_retry(lambda: replicas.names.remote(), wait=True)}
        await self._names.begin(first, skip=adapters is None)

    async def put(
        self, epoch: str, name: str, reference: str
    ) -> tuple[NameTable, str | None] | OneTrunkError | None:
        """Put what `reference` means now in service as `name`."""
        return await self._names.put(epoch, name, reference)

    async def remove(self, epoch: str, name: str) -> NameTable | UnknownName | None:
        """Take `name` out of service."""
        return await self._names.remove(epoch, name)

    async def watch(self, mark: Sequence[object]) -> TableUpdate:
        """Return the table when it is another one, and how replicas do."""
        return await self._names.watch(mark)

    async def report(self, replica: str, report: bytes) -> None:
        """Hear how a replica does."""
        self._names.report(replica, report)

    async def adopt(self, table: NameTable) -> None:
        """Take the table of a gateway, if this process has lost it."""
        self._names.adopt(table)

    async def _load(self, reference: str) -> NameEntry | OneTrunkError:
        found: NameEntry | OneTrunkError = await call_with_retry(
            lambda: self._replicas.load.remote(reference), wait=True
        )
        return found
