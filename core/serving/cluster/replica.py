"""A trunk and its engine as a replica: answers what gateways send, and loads versions as they are asked for."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace

import torch
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.serving.cluster.messages import Outcome, Report
from onetrunk.core.serving.cluster.name_service import POLL_SECONDS
from onetrunk.core.serving.cluster.name_table import Entry
from onetrunk.core.serving.engine.config import ServeConfig
from onetrunk.core.serving.engine.cpu_threads import apart, share_threads
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import AdapterUnavailable, ServingError, UnknownName
from onetrunk.core.serving.engine.requests import Input, Result
from onetrunk.core.sharing.pull import Puller

KEEPER = "Names"
"""The deployment that keeps the table of names."""
_BACK_AGAIN = 5
"""Times that a version is brought back for one text, if others push it out meanwhile."""
_log = logging.getLogger(__name__)


class Replica:
    """One engine. Names of adapters are keys here: `ner@3#` and the artifact's id.

    residents: versions that are kept ready, at least as many as a text may be asked of.
    """

    async def __init__(self, config: ServeConfig, residents: int) -> None:  # type: ignore[misc]  # Ray awaits it
        trunk = await asyncio.to_thread(apart, _trunk, config)
        limits = config.limits_on(trunk.backbone.device.type, torch.get_num_threads())
        share_threads(limits.workers)
        self._engine = Engine(trunk, limits)

        # Ray keeps its books on the function, which a method has no place for.
        async def load(key: str) -> SimpleNamespace:
            return await self._load(key)

        self._warm = serve.multiplexed(max_num_models_per_replica=residents)(load)
        self._loading = asyncio.Lock()
        self._telling = asyncio.create_task(self._tell())

    async def answer(self, requests: Sequence[Sequence[Input]], wait: bool) -> list[Outcome]:
        """Return what comes of each of several requests; see `Engine.answer`."""
        return list(await asyncio.gather(*(self._answer(inputs, wait) for inputs in requests)))

    async def load(self, reference: str) -> Entry | OneTrunkError:
        """Load and check what `reference` means now, and tell what it is."""
        try:
            async with self._loading:
                served, _ = await self._engine.load(reference, reference)
                key = f"{served.version}#{self._engine.trunk.registry.served[reference].loaded.key[1]}"
                try:
                    await self._warm(key)
                finally:
                    await self._engine.unload(reference)
        except OneTrunkError as error:
            return error
        return Entry(key, served.version, reference, served.task, served.labels, datetime.now(UTC))

    def names(self) -> list[str]:
        """Return the names of the adapters in the store, without those that were only used by their location."""
        store = self._engine.trunk.store
        return [name for name in store.names() if not store.is_cached(name)]

    def check_health(self) -> None:
        """Raise RuntimeError if nothing can be answered any more; Ray then starts another replica."""
        if self._engine.status().state == "broken":
            raise RuntimeError("the device thread has ended; the log says why")

    async def _answer(self, inputs: Sequence[Input], wait: bool) -> Outcome:
        try:
            faults = await self._ready({key for each in inputs for key in each.adapters})
            sound = [each for each in inputs if not faults.keys() & set(each.adapters)]
            answers = iter(await self._engine.answer(sound, wait=wait))
            return [
                next((faults[key] for key in each.adapters if key in faults), None)
                or await self._insisted(each, next(answers))
                for each in inputs
            ]
        except ServingError as error:
            return error

    async def _ready(self, keys: Iterable[str]) -> dict[str, OneTrunkError]:
        """Bring versions here that are not here yet; return why, of those that cannot be."""
        faults: dict[str, OneTrunkError] = {}
        for key in keys:
            try:
                await self._warm(key)
            except OneTrunkError as error:
                faults[key] = error
        return faults

    async def _insisted(self, given: Input, result: Result) -> Result:
        """Return `result`, or a better one if it only says that versions were pushed out before their turn."""
        for _ in range(_BACK_AGAIN):
            if not isinstance(result, UnknownName):
                break
            faults = await self._ready(given.adapters)
            if faults:
                return next(iter(faults.values()))
            (result,) = await self._engine.answer([given], wait=True)
        if isinstance(result, UnknownName):
            version = result.name.partition("#")[0]
            return AdapterUnavailable(version, "others push it out again and again; raise residents")
        return result

    async def _load(self, key: str) -> SimpleNamespace:
        """Load a version; Ray calls `__del__` of the result when it has to make room for another."""
        version, _, identity = key.partition("#")
        try:
            await self._engine.load(key, version)
        except OneTrunkError as error:
            raise AdapterUnavailable(version, error) from error
        if self._engine.trunk.registry.served[key].loaded.key[1] != identity:
            await self._engine.unload(key)
            raise AdapterUnavailable(version, "another adapter has this number in the store of this machine")
        return SimpleNamespace(__del__=partial(self._engine.unload, key))  # which the interpreter never calls

    async def _tell(self) -> None:
        """Tell the keeper of the names how this replica does, again and again."""
        context = serve.get_replica_context()
        keeper = serve.get_deployment_handle(KEEPER, context.app_name)
        while True:
            served = self._engine.served()
            tiers = {each.name: each.tier for each in served}
            report = Report(self._engine.about, self._engine.status(), self._engine.usage, tiers)
            try:
                await keeper.report.remote(context.replica_id.unique_id, pickle.dumps(report))
            except (RayError, RayServeException) as error:
                _log.info("the keeper of the names does not hear: %s", error)
            await asyncio.sleep(POLL_SECONDS)


def _trunk(config: ServeConfig) -> OneTrunk:
    backbone = Backbone.load(
        config.backbone or DEFAULT_BACKBONE, device=config.device, dtype=config.precision
    )
    store, host = Store(), PluginHost.discover()
    resolve = Puller(store, host, lambda _: backbone).resolve
    return OneTrunk(backbone, store=store, host=host, resolve=resolve)
