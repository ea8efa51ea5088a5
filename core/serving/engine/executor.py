"""The executor: tokenises texts and computes batches. An error fails only the text that caused it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.errors import OneTrunkError, TaskSpecError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, window_logits, window_states
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.inference.registry import Key, LoadedVersion
from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed, ExitRefused, TooManyTokens
from onetrunk.core.serving.engine.requests import AdapterAnswer, Result, WorkItem
from onetrunk.core.serving.engine.split_text import TextPart

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)


class Executor:
    """Computes the answers of work items, with the loaded versions that the items hold.

    Device threads call the methods. Plugins and the tokenizer may raise any exception, also `SystemExit` or a panic
    of native code. It becomes the error of the text that caused it, and the device thread continues.

    batch_tokens: maximum tokens computed in one forward pass.
    input_tokens: maximum tokens of a text, multiplied by its adapters.
    """

    def __init__(self, trunk: OneTrunk, batch_tokens: int, input_tokens: int) -> None:
        self._trunk, self._batch_tokens, self._input_tokens = trunk, batch_tokens, input_tokens

    def prepare(self, items: Sequence[WorkItem]) -> Iterator[tuple[WorkItem, Result | None]]:
        """Tokenise each text once, and split it into words as each of its adapters requires.

        Yields each item with None if it can be computed, else with its result: an error, or an empty list if the
        request was abandoned.
        """
        if all(item.request.abandoned for item in items):
            yield from ((item, []) for item in items)
            return
        try:
            tokenised = self._trunk.encoder.tokenise([item.text for item in items])
        except BaseException as error:  # the tokenizer does not report which text it failed for
            if len(items) > 1:
                for item in items:
                    yield from self.prepare([item])
            else:
                yield items[0], _answer_error("the tokenizer", "tokenise", error)
            return
        for item, tokens in zip(items, tokenised, strict=True):
            yield item, [] if item.request.abandoned else self._prepare_item(item, tokens)

    def answer(self, items: Sequence[WorkItem]) -> list[Result]:
        """Return the result of each item. Never raises; an item that fails does not affect the others."""
        pairs = [pair for item in items for pair in zip(item.held, item.encoded, strict=True)]
        logits = iter(self._logits(pairs))
        return [self.decode(item, list(islice(logits, len(item.held)))) for item in items]

    def compute_parts(self, parts: Sequence[TextPart]) -> dict[TextPart, OneTrunkError]:
        """Compute parts of texts, and store their hidden states and logits in the texts.

        Returns the errors. Never raises. Parts of texts that have failed, or whose client has gone, are skipped.
        """
        active = [part for part in parts if part.text.error is None and not part.text.item.request.abandoned]
        errors: dict[TextPart, OneTrunkError] = {}
        for part, states in zip(active, self._states(active), strict=True):
            error = states if isinstance(states, OneTrunkError) else _store(part, states)
            if error is not None:
                errors[part] = error
        return errors

    def decode(self, item: WorkItem, logits: Sequence[np.ndarray | OneTrunkError]) -> Result:
        """Return the answers of an item, or the error of the first adapter that fails.

        logits: for each adapter, (units, labels), or the error.
        """
        answers: list[AdapterAnswer] = []
        for name, loaded, example, own in zip(item.names, item.held, item.examples, logits, strict=True):
            if isinstance(own, OneTrunkError):
                return own
            adapter = loaded.adapter
            try:
                record = adapter.spec.decode(example, own, adapter.labels, adapter.settings)
            except BaseException as error:  # raised by the decoder of a plugin
                return _answer_error(adapter.ref, "decode", error)
            answers.append(AdapterAnswer(name, adapter.ref, adapter.spec.name, record))
        return answers

    def _prepare_item(self, item: WorkItem, tokens: Any) -> OneTrunkError | None:
        """Fill `item.examples` and `item.encoded`. Returns the error, or None."""
        if len(tokens) * len(item.held) > self._input_tokens:
            return TooManyTokens(len(tokens), len(item.held), self._input_tokens)
        for loaded in item.held:
            try:
                example = loaded.adapter.spec.unlabelled(item.text, item.words)
                item.examples.append(example)
                item.encoded.append(self._trunk.encoder.arrange(tokens, example.words))
            except BaseException as error:  # raised by the word splitter of a plugin
                return _answer_error(loaded.adapter.ref, "split", error)
        return None

    def _logits(self, pairs: Sequence[tuple[LoadedVersion, Encoded]]) -> list[np.ndarray | OneTrunkError]:
        """Return the logits of each pair of a version and a text, or the error of the pair.

        Adapters that were evicted from the device are reloaded. If the forward pass of several pairs fails, each
        half is computed again. To isolate one failing pair among n takes about 2 log2(n) more passes.

        Logits are (units, labels): one row for each word, or one row for the whole text.
        """
        slots: dict[Key, int] = {}
        adapters: list[Adapter] = []
        jobs = []
        try:
            for loaded, encoded in pairs:
                if loaded.key not in slots:
                    slots[loaded.key] = len(adapters)
                    adapters += self._trunk.registry.adapters([loaded])
                jobs.append(LogitsRequest(encoded, slots[loaded.key]))
            return [*compute_logits(self._trunk.trunk, adapters, jobs, self._batch_tokens)]
        except BaseException as error:  # raised by the head of a plugin, a reload, or a full GPU
            if len(pairs) > 1:
                count, half = len(pairs), len(pairs) // 2
                _log.warning(
                    "a forward pass of %d texts failed with %s; computing its halves again",
                    count,
                    _kind(error),
                )
                return [*self._logits(pairs[:half]), *self._logits(pairs[half:])]
            return [_pass_error(pairs[0][0].adapter.ref, error)]

    def _states(self, parts: Sequence[TextPart]) -> list[list[Tensor] | OneTrunkError]:
        """Return the hidden states of each piece of each part, or the error of the part, as `_logits` does."""
        slots: dict[Key, int] = {}
        adapters: list[Adapter] = []
        jobs = []
        try:
            for part in parts:
                for adapter, window in part.pieces:
                    loaded = part.text.item.held[adapter]
                    if loaded.key not in slots:
                        slots[loaded.key] = len(adapters)
                        adapters += self._trunk.registry.adapters([loaded])
                    jobs.append(LogitsRequest(part.text.window(adapter, window), slots[loaded.key]))
            states = iter(
                window_states(self._trunk.trunk, adapters, jobs, self._batch_tokens) if jobs else []
            )
            return [list(islice(states, len(part.pieces))) for part in parts]
        except BaseException as error:  # a reload, or a full GPU
            if len(parts) > 1:
                half = len(parts) // 2
                return [*self._states(parts[:half]), *self._states(parts[half:])]
            return [_pass_error(parts[0].text.item.held[parts[0].pieces[0][0]].adapter.ref, error)]


def _store(part: TextPart, states: Sequence[Tensor]) -> OneTrunkError | None:
    """Store the hidden states of a part; with the last window for an adapter, its logits. Returns the error."""
    text = part.text
    for (index, window), own in zip(part.pieces, states, strict=True):
        if (complete := text.add(index, window, own)) is None:
            continue
        adapter = text.item.held[index].adapter
        try:
            text.logits[index] = window_logits(adapter, text.item.encoded[index], complete)
        except BaseException as error:  # raised by the head of a plugin
            return _pass_error(adapter.ref, error)
    return None


def _pass_error(version: str, error: BaseException) -> OneTrunkError:
    """Return the error of a forward pass for the client; log it unless the adapter could not be reloaded."""
    if isinstance(error, OneTrunkError) and not isinstance(error, TaskSpecError):
        return AdapterUnavailable(version, error)
    return _answer_error(version, "the forward pass", error)


def _answer_error(version: str, step: str, error: BaseException) -> OneTrunkError:
    """Log the traceback of the step that failed, and return the error for the client."""
    _log.error("%s failed to answer a text: %s raised %s", version, step, _kind(error), exc_info=error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return ExitRefused(version)
    return AnswerFailed(version)


def _kind(error: BaseException) -> str:
    """Return the class name of `error`; for a TaskSpecError with a cause, that of the cause."""
    cause = error.__cause__ if isinstance(error, TaskSpecError) else None
    return type(cause or error).__name__
