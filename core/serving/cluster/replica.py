"""A replica: a process with a backbone and an engine. It answers gateways, and loads versions on demand."""

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
from onetrunk.core.serving.cluster.messages import NameEntry, Outcome, ReplicaHealth
from onetrunk.core.serving.cluster.name_service import POLL_SECONDS
from onetrunk.core.serving.engine.config import ServeConfig
from onetrunk.core.serving.engine.cpu_threads import run_in_thread, share_threads
from onetrunk.core.serving.engine.engine import Engine
from onetrunk.core.serving.engine.errors import AdapterUnavailable, ServingError, UnknownName
from onetrunk.core.serving.engine.requests import Result, TextRequest
from onetrunk.core.sharing.pull import Puller

NAME_SERVICE = "Names"
"""Name of the deployment of the name service."""
_MAX_RELOADS = 5
"""Maximum number of reloads for one text whose versions are evicted before they can answer."""
_log = logging.getLogger(__name__)


class Replica:
    """An engine as a Ray deployment. It serves each version under its `NameEntry.key`.

    max_loaded: number of versions that are kept loaded; at least the number of adapters that one text may request.
    """

    async def __init__(self, config: ServeConfig, max_loaded: int) -> None:  # type: ignore[misc]  # Ray awaits it
        trunk = await asyncio.to_thread(run_in_thread, _load_trunk, config)
        limits = config.limits_on(trunk.backbone.device.type, torch.get_num_threads())
        share_threads(limits.workers)
        self._engine = Engine(trunk, limits)

        # A function, because Ray sets its cache of loaded models as an attribute of the callable that it wraps.
        async def load(key: str) -> SimpleNamespace:
            return await self._load_key(key)

        self._ensure_loaded = serve.multiplexed(max_num_models_per_replica=max_loaded)(load)
        self._loading = asyncio.Lock()
        self._reporting = asyncio.create_task(self._report_health())

    async def answer(self, requests: Sequence[Sequence[TextRequest]], wait: bool) -> list[Outcome]:
        """Return the outcome of each request.

        requests: the texts of each request, with keys in place of served names.
        wait: wait for capacity instead of returning QueueFull.
        """
        return list(await asyncio.gather(*(self._answer(inputs, wait) for inputs in requests)))

    async def load(self, reference: str) -> NameEntry | OneTrunkError:
        """Load and check the version that `reference` means now. Returns its entry, or the error."""
        try:
            async with self._loading:
                served, _ = await self._engine.load(reference, reference)
                key = f"{served.version}#{self._artifact_id(reference)}"
                try:
                    await self._ensure_loaded(key)
                finally:
                    await self._engine.unload(reference)
        except OneTrunkError as error:
            return error
        return NameEntry(key, served.version, reference, served.task, served.labels, datetime.now(UTC))

    def names(self) -> list[str]:
        """Return the adapter names of the store, except adapters that were only used by their location."""
        store = self._engine.trunk.store
        return [name for name in store.names() if not store.is_cached(name)]

    def check_health(self) -> None:
        """Raise RuntimeError if a device thread has ended; Ray then replaces the replica."""
        if self._engine.status().state == "broken":
            raise RuntimeError("a device thread has ended; the log says why")

    async def _answer(self, inputs: Sequence[TextRequest], wait: bool) -> Outcome:
        try:
            errors = await self._load_all({key for each in inputs for key in each.adapters})
            valid = [each for each in inputs if not errors.keys() & set(each.adapters)]
            answers = iter(await self._engine.answer(valid, wait=wait))
            return [
                next((errors[key] for key in each.adapters if key in errors), None)
                or await self._retry_evicted(each, next(answers))
                for each in inputs
            ]
        except ServingError as error:
            return error

    async def _load_all(self, keys: Iterable[str]) -> dict[str, OneTrunkError]:
        """Load the versions that are not loaded. Returns the errors by key."""
        errors: dict[str, OneTrunkError] = {}
        for key in keys:
            try:
                await self._ensure_loaded(key)
            except OneTrunkError as error:
                errors[key] = error
        return errors

    async def _retry_evicted(self, given: TextRequest, result: Result) -> Result:
        """Return `result`. If a version was evicted before it could answer, load it again and retry."""
        for _ in range(_MAX_RELOADS):
            if not isinstance(result, UnknownName):
                break
            errors = await self._load_all(given.adapters)
            if errors:
                return next(iter(errors.values()))
            (result,) = await self._engine.answer([given], wait=True)
        if isinstance(result, UnknownName):
            version = result.name.partition("#")[0]
            return AdapterUnavailable(
                version, "evicted repeatedly before it could answer; raise max_loaded_versions"
            )
        return result

    async def _load_key(self, key: str) -> SimpleNamespace:
        """Load a version. To evict it, Ray calls `__del__` of the returned object and awaits the coroutine."""
        version, _, artifact_id = key.partition("#")
        try:
            await self._engine.load(key, version)
        except OneTrunkError as error:
            raise AdapterUnavailable(version, error) from error
        if self._artifact_id(key) != artifact_id:
            await self._engine.unload(key)
            raise AdapterUnavailable(
                version, "the store of this machine has another adapter with this number"
            )
        return SimpleNamespace(__del__=partial(self._engine.unload, key))  # not called by Python

    def _artifact_id(self, name: str) -> str:
        return self._engine.trunk.registry.served[name].loaded.key[1]

    async def _report_health(self) -> None:
        """Send the health of this replica to the name service, once a second."""
        context = serve.get_replica_context()
        names = serve.get_deployment_handle(NAME_SERVICE, context.app_name)
        engine = self._engine
        while True:
            tiers = {each.name: each.tier for each in engine.adapters()}
            health = ReplicaHealth(engine.info, engine.status(), engine.usage, tiers)
            try:
                await names.report.remote(context.replica_id.unique_id, pickle.dumps(health))
            except (RayError, RayServeException) as error:
                _log.info("the name service cannot be reached: %s", error)
            await asyncio.sleep(POLL_SECONDS)


def _load_trunk(config: ServeConfig) -> OneTrunk:
    backbone = Backbone.load(
        config.backbone or DEFAULT_BACKBONE, device=config.device, dtype=config.precision
    )
    store, host = Store(), PluginHost.discover()
    resolve = Puller(store, host, lambda _: backbone).resolve
    return OneTrunk(backbone, store=store, host=host, resolve=resolve)
