"""`OneTrunk`: serves any number of adapters on one frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from onetrunk.adapters.methods.bank import Bank
from onetrunk.adapters.remotes.locations import is_location
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.backbones.tokenization import MAX_CHARACTERS, length_fault
from onetrunk.core.data.dataset import Dataset, check_targets
from onetrunk.core.data.notes import Note
from onetrunk.core.errors import PredictionFailed, TaskSpecError, UsageError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.encoded_notes import notes_on_encoded
from onetrunk.core.inference.logits import (
    BATCH_TOKENS,
    LogitsRequest,
    compute_logits,
    encode_examples,
    ignore,
    with_encoded_words,
)
from onetrunk.core.inference.registry import AdapterRegistry, Resolve
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, JSONObject
from onetrunk.core.tasks.guarded_calls import calling
from onetrunk.core.tasks.prediction import Prediction, check_strings
from onetrunk.core.tasks.unknown_labels import task_metrics
from onetrunk.core.trunk.build import trunk_of

CHUNK = 2048
"""Default number of texts of a stream that are read and answered together, to bound the memory of a long stream."""


class OneTrunk:
    """A frozen backbone in memory that serves adapters. Thread-safe.

    A prediction uses the versions that were loaded when it began.

    backbone: a loaded `Backbone`, or a Hub id or folder to load on the default device in the default precision.
    store: the adapter store, by default the user's.
    host: the plugins, by default those that are installed.
    memory: largest number of bytes of LoRA weights on the device, None for no bound. Beyond it the least recently
        used adapters are evicted: on a GPU first to host memory, of at most the same size. At its next use, an
        adapter that was evicted from memory is read from the store. Heads, and adapters in use, stay in memory.
    graphs: on a GPU, run small batches as CUDA graphs, which saves the time of launching kernels. All threads must
        then use one CUDA stream. `memory` does not count the graphs: each has buffers for up to 64 adapters.
    resolve: finds the version of a reference, by default in `store`. For locations such as `org/repo`, pass
        `Puller(store, host, lambda _: backbone).resolve` of `core.sharing.pull`.
    """

    def __init__(
        self,
        backbone: Backbone | str | Path = DEFAULT_BACKBONE,
        *,
        store: Store | None = None,
        host: PluginHost | None = None,
        memory: int | None = None,
        graphs: bool = False,
        resolve: Resolve | None = None,
    ) -> None:
        self.backbone = backbone if isinstance(backbone, Backbone) else Backbone.load(backbone)
        trunk = trunk_of(self.backbone)
        self.trunk = trunk.with_graphs() if graphs else trunk
        self.store = store or Store()
        self.host = host or PluginHost.discover()
        self.encoder = self.backbone.encoder
        self.registry = AdapterRegistry(
            resolve or self._from_store, self.host, self.backbone, self.trunk, memory
        )

    def _from_store(self, reference: str) -> StoredVersion:
        if is_location(reference):
            raise UsageError(
                f"{reference} is a location, but this OneTrunk resolves only names of the store; pull it first, or "
                "pass resolve=Puller(store, host, lambda _: backbone).resolve"
            )
        return self.store.resolve(reference)

    @property
    def loaded(self) -> dict[str, str]:
        """The version that answers, such as `ner@3`, by loaded reference."""
        return {name: own.version for name, own in self.registry.served.items()}

    @property
    def bank(self) -> Bank:
        """The LoRA weights of the loaded adapters; `bank.usage` has counters."""
        return self.registry.bank

    def load(self, reference: str) -> str:
        """Load and check the version that `reference` means now; return it, such as `ner@3`.

        A second call loads a newer version if there is one. A version that is already loaded is not read again.
        Raises UnknownAdapter, ArtifactError, BackboneMismatch, AdapterRejected or UnknownTask. The version that was
        loaded before stays in use after an error.
        """
        served, _ = self.registry.load(reference, reference)
        return served.version

    def unload(self, reference: str) -> None:
        """Stop serving `reference`. Raises UsageError if it is not loaded."""
        self.registry.unload(reference)

    def predict(
        self, texts: Sequence[str], adapters: Sequence[str], *, batch_tokens: int = BATCH_TOKENS
    ) -> list[list[Prediction]]:
        """Return the predictions for each text: a list with one prediction of each adapter, in the given order.

        batch_tokens: largest number of tokens of a batch.
        Raises UsageError for an adapter that is not loaded, TypeError if an argument is not a list of strings, and
        PredictionFailed if a task raises an error on a text; `predict_stream` then yields the texts before it.
        """
        check_strings(texts, adapters)
        return list(self.predict_stream(texts, adapters, batch_tokens=batch_tokens))

    def predict_stream(
        self,
        texts: Iterable[str],
        adapters: Sequence[str],
        *,
        batch_tokens: int = BATCH_TOKENS,
        chunk: int = CHUNK,
    ) -> Iterator[list[Prediction]]:
        """Yield the predictions for each text of a stream of any length, in bounded memory.

        chunk: number of texts to read before they are answered. With 1 each text is answered at once, more slowly.
            Fewer long texts are read: about `MAX_CHARACTERS` characters.
        Raises UsageError for an adapter that is not loaded, and PredictionFailed if a task raises an error on a
        text, or if a text has more than `MAX_CHARACTERS` characters. If the error is in `decode`, or if a text is
        too long, the predictions for all texts before it were yielded.
        """
        with self.registry.in_use(adapters) as chosen:
            before = 0
            for read in _chunks(texts, chunk):
                if fault := length_fault(read[-1]):  # a chunk ends after such a text
                    yield from self._answer(read[:-1], chosen, batch_tokens, before)
                    raise PredictionFailed(
                        f"text {before + len(read)}",
                        before + len(read) - 1,
                        read[-1],
                        ",".join(adapters),
                        fault,
                    )
                yield from self._answer(read, chosen, batch_tokens, before)
                before += len(read)

    def evaluate(
        self,
        reference: str,
        dataset: Dataset,
        *,
        batch_tokens: int = BATCH_TOKENS,
        advance: Callable[[int], None] = ignore,
        notes: list[Note] | None = None,
    ) -> JSONObject:
        """Return the metrics of a loaded adapter on `dataset`. Rows with labels that it lacks count as missed.

        notes: gets what the words of the task and the tokens of the backbone cannot express of the data.
        """
        with self.registry.in_use([reference]) as (adapter,):
            spec = adapter.spec
            checked = check_targets(spec, dataset, adapter.labels, allow_unknown=True)
            encoded = encode_examples(self.encoder, spec, dataset.examples)
            examples = with_encoded_words(spec, dataset.examples, encoded)
            requests = [LogitsRequest(each, 0) for each in encoded]
            logits = compute_logits(self.trunk, [adapter], requests, batch_tokens, advance)
        if notes is not None:
            notes += notes_on_encoded(spec, examples, encoded, dataset.source)
        return task_metrics(spec, examples, logits, adapter.labels, adapter.settings, checked.unknown)

    def logits(
        self,
        examples: Sequence[Example],
        adapter: Adapter,
        batch_tokens: int = BATCH_TOKENS,
        advance: Callable[[int], None] = ignore,
    ) -> list[np.ndarray]:
        """Return the logits of each example, (units, labels) float32."""
        encoded = encode_examples(self.encoder, adapter.spec, examples)
        requests = [LogitsRequest(each, 0) for each in encoded]
        return compute_logits(self.trunk, [adapter], requests, batch_tokens, advance)

    def _answer(
        self, texts: Sequence[str], adapters: Sequence[Adapter], batch_tokens: int, before: int
    ) -> Iterator[list[Prediction]]:
        """Answer `texts` with all adapters together; each text is tokenised once.

        before: number of texts of the stream before `texts`.
        """
        tokenised = self.encoder.tokenise(texts)
        examples: list[list[Example]] = []
        requests: list[LogitsRequest] = []
        for slot, adapter in enumerate(adapters):
            examples.append([])
            for i, (text, tokens) in enumerate(zip(texts, tokenised, strict=True)):
                with _on_text(adapter, "split", before + i, text):
                    example = adapter.spec.unlabelled(text)
                join = adapter.spec.flexible_words
                encoded = self.encoder.arrange(tokens, example.words, join=join)
                requests.append(LogitsRequest(encoded, slot))
                examples[-1].append(adapter.spec.with_words(example, encoded.spans))
        logits = compute_logits(self.trunk, adapters, requests, batch_tokens)
        for i, text in enumerate(texts):
            answers = []
            for slot, adapter in enumerate(adapters):
                example, rows = examples[slot][i], logits[slot * len(texts) + i]
                with _on_text(adapter, "decode", before + i, text):
                    result = adapter.spec.decode(example, rows, adapter.labels, adapter.settings)
                answers.append(Prediction(text, adapter.ref, result))
            yield answers


def _chunks(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """Yield lists of at most `most` texts. A list ends with the text that reaches `MAX_CHARACTERS` in total."""
    read: list[str] = []
    characters = 0
    for text in texts:
        read.append(text)
        characters += len(text)
        if len(read) == most or characters >= MAX_CHARACTERS:
            yield read
            read, characters = [], 0
    if read:
        yield read


@contextmanager
def _on_text(adapter: Adapter, function: str, index: int, text: str) -> Iterator[None]:
    """Raise an error of the block as PredictionFailed, which names the text and the task's `function`."""
    try:
        with calling(adapter.spec, function):
            yield
    except TaskSpecError as error:
        raise PredictionFailed(f"text {index + 1}", index, text, adapter.ref, str(error)) from error
