"""`OneTrunk`: one frozen trunk, any number of adapters, one call for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from onetrunk.adapters.artifact import read_id
from onetrunk.adapters.bank import Bank
from onetrunk.adapters.flat import flattened
from onetrunk.adapters.locations import is_location
from onetrunk.adapters.lora import Lora
from onetrunk.adapters.store import Store, StoredVersion
from onetrunk.core.adapter import Adapter
from onetrunk.core.adapter_files import load_adapter, reload_lora
from onetrunk.core.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.data.dataset import Dataset, check_targets
from onetrunk.core.errors import UsageError
from onetrunk.core.inference import BATCH_TOKENS, Job, compute_logits, ignore
from onetrunk.core.plugin_host import PluginHost
from onetrunk.core.task_calls import json_of
from onetrunk.core.tasks import Example, JSONObject
from onetrunk.core.trunk import Trunk

CHUNK = 2048
"""Texts that are tokenised, packed and answered together, by default; bounds the memory of a large file."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one adapter says of one text; `result` is the task's own record (entities, or label and scores)."""

    text: str
    adapter: str
    result: JSONObject

    def to_json(self) -> JSONObject:
        """Return the record as one flat object."""
        return {"text": self.text, "adapter": self.adapter, **self.result}


_Key = tuple[str, str]
"""A version, `ner@3`, and the id of its artifact, as the same number may be another adapter in a new store."""


@dataclass(frozen=True, slots=True, eq=False)
class _Serving:
    """A version in service. adapter: without its updates, which the bank has under `key`."""

    key: _Key
    adapter: Adapter


class OneTrunk:
    """A frozen backbone in memory that serves adapters.

    Safe to share between threads: a prediction uses the adapters that were loaded when it began, and a load or
    unload replaces one reference after everything has been checked on the side.

    backbone: a loaded `Backbone`, a Hub id or a folder. store: where references are looked up; the user's own by
    default. host: the plugins; found by entry point by default. device, dtype: as for `Backbone.load`.
    memory: bytes for the LoRA weights of the loaded adapters on the device; None for no bound. Those that were used
    least recently make room (on a GPU, for host memory of the same size first) and come back when they are asked
    for, from the store, where they must then still be. Heads, which are small, and what a prediction under way uses
    stay in any case. `bank.usage` counts.
    graphs: on a GPU, replay CUDA graphs for small batches, where launching takes longer than computing. All threads
    must use one stream then, and the graphs' memory, room for 64 adapters each, is not counted by `memory`.
    """

    def __init__(
        self,
        backbone: Backbone | str | Path = DEFAULT_BACKBONE,
        *,
        store: Store | None = None,
        host: PluginHost | None = None,
        device: str = "auto",
        dtype: str = "auto",
        memory: int | None = None,
        graphs: bool = False,
    ) -> None:
        if not isinstance(backbone, Backbone):
            backbone = Backbone.load(backbone, device=device, dtype=dtype)
        self.backbone = backbone
        self.trunk = Trunk.of(self.backbone)
        if graphs:
            self.trunk = self.trunk.with_graphs()
        self.store = store or Store()
        self.host = host or PluginHost.discover()
        self._encoder = self.backbone.encoder()
        self.bank = Bank(self.trunk.device, self.trunk.dtype, memory, memory)
        self._serving: Mapping[str, _Serving] = {}
        self._versions: dict[_Key, tuple[_Serving, int]] = {}  # each with the number of references to it
        self._change = threading.Lock()

    @property
    def loaded(self) -> dict[str, str]:
        """The references that `predict` knows, each with the version that answers to it now."""
        return {reference: serving.adapter.ref for reference, serving in self._serving.items()}

    def load(self, reference: str) -> str:
        """Load, check and put in service what `reference` names now; return the version, `ner@3`.

        A repo of the Hub, `org/repo@rev`, or a shared folder, `file:///…`, is pulled into the store first.

        A second call picks up a newer version; one that serves under another reference is neither read nor checked
        again. Raises UnknownAdapter, ArtifactError, BackboneMismatch, AdapterRejected or UnknownTask; what served
        before goes on serving.
        """
        with self._change:  # from the look-up on, or a slow load could undo a later one
            stored = self._located(reference)
            known, _ = self._versions.get((stored.ref, read_id(stored.path)), (None, 0))
            before = self._serving.get(reference)
            self._serve(reference, known or self._install(stored))
        if before is None or before.adapter.ref != stored.ref:
            old = None if before is None else int(before.adapter.ref.rpartition("@")[2])
            self.host.notify("adapter_swapped", name=stored.name, old=old, new=stored.version)
        return stored.ref

    def unload(self, reference: str) -> None:
        """Take `reference` out of service. Raises UsageError if it is not loaded."""
        with self._change:
            _known(self._serving, [reference])
            self._serve(reference, None)

    def predict(
        self, texts: Sequence[str], adapters: Sequence[str], *, batch_tokens: int = BATCH_TOKENS
    ) -> list[list[Prediction]]:
        """Answer every text with every adapter: a list a text, in it a prediction an adapter, in the order asked.

        Raises UsageError for an adapter that is not loaded, TypeError for what is no list of strings.
        """
        for name, given in (("texts", texts), ("adapters", adapters)):
            if isinstance(given, str) or not isinstance(given, Collection):  # a generator could be read once
                raise TypeError(f"{name} must be a list of strings")
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("texts must be a list of strings")
        return list(self.predict_stream(texts, adapters, batch_tokens=batch_tokens))

    def predict_stream(
        self,
        texts: Iterable[str],
        adapters: Sequence[str],
        *,
        batch_tokens: int = BATCH_TOKENS,
        chunk: int = CHUNK,
    ) -> Iterator[list[Prediction]]:
        """Answer a stream of any length in bounded memory; otherwise as `predict`.

        chunk: texts that are read before they are answered together; 1 answers each as it comes, more slowly.
        """
        chosen = self._get(adapters)
        rest = iter(texts)
        while read := list(islice(rest, chunk)):
            yield from self._answer(read, chosen, batch_tokens)

    def evaluate(
        self,
        reference: str,
        dataset: Dataset,
        *,
        batch_tokens: int = BATCH_TOKENS,
        advance: Callable[[int], None] = ignore,
    ) -> JSONObject:
        """Return the metrics of a loaded adapter on `dataset`. Raises DataError for labels it does not know."""
        (adapter,) = self._get([reference])
        check_targets(adapter.spec, dataset, adapter.labels)
        logits = self.logits(dataset.examples, adapter, batch_tokens, advance)
        return json_of(adapter.spec, "evaluate", dataset.examples, logits, adapter.labels, adapter.settings)

    def logits(
        self,
        examples: Sequence[Example],
        adapter: Adapter,
        batch_tokens: int = BATCH_TOKENS,
        advance: Callable[[int], None] = ignore,
    ) -> list[np.ndarray]:
        """Return the logits of each example, (units, labels) float32."""
        encoded = self._encoder.encode([e.text for e in examples], [adapter.spec.spans(e) for e in examples])
        jobs = [Job(each, 0) for each in encoded]
        return compute_logits(
            self.trunk, self.backbone.first_position, [adapter], jobs, batch_tokens, advance
        )

    def _located(self, reference: str) -> StoredVersion:
        """Return the version that `reference` means; one of a Hub or folder is pulled, if it is not there yet."""
        if not is_location(reference):
            return self.store.resolve(reference)
        from onetrunk.core.sharing.pulling import Puller, located

        return located(self.store, Puller(self.store, self.host, lambda _: self.backbone), reference)

    def _install(self, stored: StoredVersion) -> _Serving:
        """Read and check a version, and put it into the bank."""
        artifact = stored.read()
        spec = self.host.task(artifact.manifest.task)
        adapter = load_adapter(stored.ref, artifact, spec, self.backbone, self.trunk, flattened)
        key = (stored.ref, artifact.id)
        self.bank.install(key, adapter.lora, partial(_reload, stored, artifact.id, self.backbone))
        return _Serving(key, replace(adapter, lora=Lora({})))

    def _serve(self, reference: str, new: _Serving | None) -> None:
        """Replace what `reference` means (None: nothing), then forget the old version if nothing means it now."""
        changed = dict(self._serving)
        old = changed.pop(reference, None) if new is None else changed.get(reference)
        if new is not None:
            changed[reference] = new
            self._count(new, 1)
        self._serving = changed
        if old is not None and not self._count(old, -1):
            del self._versions[old.key]
            self.bank.remove(old.key)

    def _count(self, serving: _Serving, more: int) -> int:
        """Count the references to a version, and return their number."""
        _, count = self._versions.get(serving.key, (serving, 0))
        self._versions[serving.key] = (serving, count + more)
        return count + more

    def _get(self, references: Sequence[str]) -> list[Adapter]:
        """Return the adapters of `references` with their updates on the device."""
        while True:
            serving = self._serving
            chosen = _known(serving, references)
            try:
                loras = self.bank.get(each.key for each in chosen)
            except KeyError:
                if serving is self._serving:
                    raise
                continue  # another thread has taken one out of service since we looked
            return [replace(each.adapter, lora=loras[each.key]) for each in chosen]

    def _answer(
        self, texts: Sequence[str], adapters: Sequence[Adapter], batch_tokens: int
    ) -> Iterator[list[Prediction]]:
        """Tokenise each text once, run all adapters over one queue of jobs, decode."""
        tokenised = self._encoder.tokenise(texts)
        examples = [[adapter.spec.unlabelled(text) for text in texts] for adapter in adapters]
        jobs = [
            Job(self._encoder.arrange(tokens, example.words), slot)
            for slot, own in enumerate(examples)
            for tokens, example in zip(tokenised, own, strict=True)
        ]
        logits = compute_logits(self.trunk, self.backbone.first_position, adapters, jobs, batch_tokens)
        for i, text in enumerate(texts):
            yield [
                Prediction(
                    text,
                    adapter.ref,
                    adapter.spec.decode(
                        examples[slot][i], logits[slot * len(texts) + i], adapter.labels, adapter.settings
                    ),
                )
                for slot, adapter in enumerate(adapters)
            ]


def _known(serving: Mapping[str, _Serving], references: Sequence[str]) -> list[_Serving]:
    """Return what serves under `references`. Raises UsageError for one that is not loaded."""
    if missing := [reference for reference in references if reference not in serving]:
        known = ", ".join(serving) or "none"
        wanted = repr(missing[0])
        raise UsageError(f"adapter {wanted} is not loaded; loaded: {known}; call load({wanted}) first")
    return [serving[reference] for reference in references]


def _reload(stored: StoredVersion, identity: str, backbone: Backbone) -> Lora:
    """Return the updates of an evicted adapter, from the artifact that it was loaded from."""
    return reload_lora(stored.ref, stored.read(), identity, backbone)
