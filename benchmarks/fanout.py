"""Fan-out: every text asked of several adapters at once, from token ids to logits, against one adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.equality import TOLERANCES, Precision, WrongOutput, check
from benchmarks.timing import interleave
from benchmarks.variants import Reference, Setup
from benchmarks.workloads import TARGETS, Batch, random_lora
from onetrunk.adapters.methods.flat_layout import flattened
from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.device import DTYPES
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.packing import pack

KEY = "fan-out of 5 qv8"
COUNT, RANK, LABELS = 5, 8, 8
"""Adapters asked of each text, their rank, and the labels of each."""


@dataclass(frozen=True, slots=True)
class FanOut:
    """A question: how many adapters, adapted on how many of the topmost layers (None: on all)."""

    adapters: int
    last: int | None
    precision: Precision = "fp32"


FANOUTS = {
    "one adapter": FanOut(1, None),
    "one adapter, last 2": FanOut(1, 2),
    "five adapters": FanOut(COUNT, None),
    "five adapters, last 3": FanOut(COUNT, 3),
    "five adapters, last 2": FanOut(COUNT, 2),
    "five adapters, last 1": FanOut(COUNT, 1),
}


def run_fanout(
    setup: Setup, texts: Sequence[Encoded], fanouts: dict[str, FanOut], rounds: int, least: float
) -> dict[str, Any]:
    """Check the logits of every question, time those that are right, and return the workload's record."""
    ready = {name: Asked(fanout, setup, texts) for name, fanout in fanouts.items()}
    records = {name: asked.verdict() for name, asked in ready.items()}
    calls = {name: asked.run for name, asked in ready.items() if records[name]["status"] == "ok"}
    for name, timing in interleave(calls, rounds, least, setup.device).items():
        records[name] |= timing.to_json()
    return {"texts": len(texts), "tokens": sum(text.tokens for text in texts), "variants": records}


class Asked:
    """A question, ready to be asked."""

    def __init__(self, fanout: FanOut, setup: Setup, texts: Sequence[Encoded]) -> None:
        self._fanout, self._setup, self._texts = fanout, setup, texts
        self._trunk = trunk_of(setup.backbone, DTYPES[fanout.precision])
        first = 0 if fanout.last is None else setup.backbone.layers - fanout.last
        self.loras = [_from_layer(first, setup, seed) for seed in range(fanout.adapters)]
        self._adapters = [self._adapter(lora, seed) for seed, lora in enumerate(self.loras)]
        self._jobs = [LogitsRequest(text, slot) for slot in range(fanout.adapters) for text in texts]

    def _adapter(self, lora: Lora, seed: int) -> Adapter:
        backbone = self._setup.backbone
        spec = PluginHost.discover().task("intent")
        labels = tuple(f"label {i}" for i in range(LABELS))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = build_head(spec, backbone, labels, backbone.pooling).eval()
        here = flattened(lora, self._trunk.device, self._trunk.adapter_dtype)
        return Adapter(f"a{seed}@1", spec, labels, backbone.pooling, here, head, {})

    def run(self) -> list[np.ndarray]:
        """Return the logits of each job, adapter after adapter."""
        return compute_logits(
            self._trunk,
            self._adapters,
            self._jobs,
            self._setup.batch_tokens,
        )

    def verdict(self) -> dict[str, Any]:
        """Compare the logits with those of merged models, a text at a time: `ok` with the error, or `failed`."""
        precision = self._fanout.precision
        record = {"precision": precision, "kind_of_error": TOLERANCES[precision].kind}
        try:
            error = check(torch.from_numpy(np.concatenate(self.run())), self._expected(), precision)
        except WrongOutput as reason:
            return {**record, "status": "failed", "reason": str(reason)}
        return {**record, "status": "ok", "error": error}

    @torch.inference_mode()
    def _expected(self) -> Tensor:
        """Return the right logits (jobs, labels): each head on transformers' hidden states of its adapter."""
        own = self._setup
        merged = Setup(own.backbone, tuple(self.loras), own.scratch, own.name, own.batch_tokens)
        slots = [job.slot for job in self._jobs]
        batch = Batch(tuple(job.encoded for job in self._jobs), tuple(slots))
        states = Reference(merged).states(batch, "own").split(sum(text.tokens for text in self._texts))
        rows = pack(self._texts, [0] * len(self._texts), device=own.device).rows(0, len(self._texts))
        heads = [adapter.head for adapter in self._adapters]
        return torch.cat([head(hidden, rows) for head, hidden in zip(heads, states, strict=True)]).cpu()


def _from_layer(first: int, setup: Setup, seed: int) -> Lora:
    """Return a random adapter of the layers from `first` on."""
    whole = random_lora(setup.backbone, TARGETS["qv"], RANK, seed)
    return Lora({target: own for target, own in whole.updates.items() if target[0] >= first})
