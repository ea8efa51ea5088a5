"""A store of random adapters for services to load: rank 8 on query and value, heads of several tasks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.workloads import random_lora
from onetrunk.adapters.format.artifact import MODEL
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.adapter_io import probe_logits
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Labels
from onetrunk.core.training.manifest_builder import Destination, bare_manifest, store_adapter
from onetrunk.core.trunk.build import trunk_of

MIXED = ("intent", "sentiment", "ner")
TEXT = ("intent",)
BROKEN = "broken@1"
"""A reference that every store of `make_store` has, and that nobody can load."""

TYPES = ("LOC", "ORG", "PER", "MISC")
LABELS: dict[str, Labels] = {
    "intent": tuple(f"intent {i}" for i in range(20)),
    "sentiment": ("negative", "neutral", "positive"),
    "ner": ("O", *(f"{prefix}-{name}" for name in TYPES for prefix in "BI")),
}
SPREAD = 2.0
"""Standard deviation of the logits: wide enough that an answer without the updates, or with another adapter's, is
far from right, and that the best label is no matter of the last digit."""
NER_BIAS = {"O": 2.0, "I": -8.0}
"""What is added to the tags' logits: most words are outside, and no entity has a second word, as two decoders
that treat tags that are not valid IOB2 differently must give the same."""


@dataclass(frozen=True, slots=True)
class Stock:
    """The adapters of a workload: `names`, the most popular first, in the store at `root`."""

    root: Path
    names: tuple[str, ...]

    @property
    def store(self) -> Store:
        """The store."""
        return Store(self.root)

    @property
    def versions(self) -> list[str]:
        """The version that each name means."""
        return [self.store.resolve(name).ref for name in self.names]

    @property
    def spare(self) -> str:
        """The older version of the first adapter."""
        return f"{self.names[0]}@1"


def task_of(name: str) -> str:
    """Return the task of the adapter that a stock has as `name`."""
    return name.partition("-")[0]


def make_stock(root: Path, backbone: Backbone, tasks: Sequence[str], count: int) -> Stock:
    """Store `count` adapters of `tasks` in turn, the first in two versions, and the broken one."""
    store, host = Store(root), PluginHost.discover()
    names = tuple(f"{tasks[i % len(tasks)]}-{i}" for i in range(count))
    _add(store, host, backbone, names[0], tasks[0], seed=count)
    for i, name in enumerate(names):
        _add(store, host, backbone, name, task_of(name), seed=i)
    first = store.resolve(names[0]).path
    broken = store.add(BROKEN.partition("@")[0], partial(shutil.copytree, first, dirs_exist_ok=True))
    weights = bytearray((broken.path / MODEL).read_bytes())
    weights[-1] ^= 1
    (broken.path / MODEL).write_bytes(weights)
    return Stock(root, names)


def _add(store: Store, host: PluginHost, backbone: Backbone, name: str, task: str, seed: int) -> None:
    """Store a random adapter of `task` as the next version of `name`; the same for the same seed."""
    spec, labels = host.task(task), LABELS[task]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build_head(spec, backbone, labels, "cls", dropout=0.0).requires_grad_(False).eval()
    lora = random_lora(backbone, ("query", "value"), 8, seed)
    adapter = Adapter(name, spec, labels, "cls", lora, head, {})
    _spread(adapter, backbone)
    trained = sum(tensor.numel() for tensor in (*lora.parameters, *head.parameters()))
    manifest = bare_manifest(host, adapter, backbone, trained)
    store_adapter(Destination(host, store, name), adapter, backbone, manifest)


def _spread(adapter: Adapter, backbone: Backbone) -> None:
    """Scale and shift the classifier: its logits get mean 0 and deviation `SPREAD`, then tags their bias."""
    classifier = adapter.head.get_submodule("classifier")
    assert isinstance(classifier, nn.Linear)
    probe = probe_logits(adapter, trunk_of(backbone, torch.float32), backbone, adapter.spec.probe)
    logits = torch.from_numpy(np.concatenate(probe))
    scale = SPREAD / float(logits.std(dim=0).mean())
    classifier.weight.mul_(scale)
    classifier.bias.copy_(-scale * logits.mean(dim=0))
    if adapter.spec.level == "token":
        classifier.bias.add_(torch.tensor([NER_BIAS.get(label[0], 0.0) for label in adapter.labels]))
