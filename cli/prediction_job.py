"""What `adapters predict` runs: adapters in this process, or a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.remotes.locations import is_location
from onetrunk.cli.backbones import backbone_for
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.output import print_notes
from onetrunk.cli.prediction_output import Predict
from onetrunk.cli.sharing import read_token, resolve_version
from onetrunk.cli.threads import use_threads

if TYPE_CHECKING:
    from onetrunk.adapters.store.store import StoredVersion


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """What to predict with.

    references: of the adapters.  url: of a service, None for an encoder in this process.  token: file with the
    token of the service.  running: values of `running_options`.  chunk: texts to read ahead, None for the default.
    """

    context: click.Context
    references: Sequence[str]
    url: str | None
    token: str | None
    running: Mapping[str, Any]
    chunk: int | None

    def resolve(self) -> list[StoredVersion]:
        """Return the versions to load; [] for a service. Raises the errors of `resolve_version`."""
        if self.url is not None:
            return []
        host, choice = plugin_host(self.context), self.running["backbone"]
        return [resolve_version(host, each, choice) for each in self.references]

    def settings(self, versions: Sequence[StoredVersion]) -> dict[str, object]:
        """Return what the answers depend on, as JSON."""
        adapters = [each.ref for each in versions] or list(self.references)
        chosen = {f"--{name}": self.running[name] for name in ("backbone", "precision")}
        return {"adapters": adapters, "--url": self.url, **chosen}


@contextmanager
def open_backend(job: PredictionJob, stored: Sequence[StoredVersion]) -> Iterator[Predict]:
    """Yield a function that predicts with the service of `job`, or with an encoder in this process.

    Raises UsageError if the adapters need different backbones.
    """
    if job.url is not None:
        from onetrunk.core.client import Client
        from onetrunk.core.client.requests import CHUNK as SENT

        with Client(job.url, read_token(job.token)) as client:
            yield lambda texts: client.predict_stream(texts, job.references, chunk=job.chunk or SENT)
        return
    running, manifests = job.running, {each.ref: read_manifest(each.path) for each in stored}
    backbone = backbone_for(manifests, running["backbone"], running["device"], running["precision"])
    print_notes(use_threads(running["threads"], backbone))
    from onetrunk.core.inference.logits import BATCH_TOKENS
    from onetrunk.core.inference.predictor import CHUNK, OneTrunk

    trunk = OneTrunk(backbone, host=plugin_host(job.context))
    served = [
        own.ref if is_location(given) else given for given, own in zip(job.references, stored, strict=True)
    ]
    for reference in served:
        trunk.load(reference)
    tokens = running["batch_tokens"] or BATCH_TOKENS
    yield lambda texts: trunk.predict_stream(texts, served, batch_tokens=tokens, chunk=job.chunk or CHUNK)
