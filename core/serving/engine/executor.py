"""The executor: tokenises texts and computes batches on a device thread, and contains every error to its text."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from onetrunk.core.errors import OneTrunkError, TaskSpecError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.inference.registry import Key
from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed, ExitRefused, TooManyTokens
from onetrunk.core.serving.engine.requests import AdapterAnswer, Result, WorkItem

_log = logging.getLogger(__name__)


class Executor:
    """Computes the answers of work items, with the loaded versions that the items hold.

    Plugins and the tokenizer may raise anything, also exceptions outside `Exception`: `SystemExit`, or a panic of
    native code. Every one of them becomes the error of the text that caused it; the device thread goes on.

    batch_tokens: maximum tokens computed in one forward pass.
    input_tokens: maximum tokens of a text, multiplied by its adapters.
    """

    def __init__(self, trunk: OneTrunk, batch_tokens: int, input_tokens: int) -> None:
        self._trunk, self._batch_tokens, self._input_tokens = trunk, batch_tokens, input_tokens

    def prepare(self, items: Sequence[WorkItem]) -> Iterator[tuple[WorkItem, OneTrunkError | None]]:
        """Tokenise each text once, and reload evicted adapters.

        Yields each item with its error, or None. Items whose request is gone are skipped, and yielded without an
        error.
        """
        if all(item.request.gone for item in items):
            yield from ((item, None) for item in items)
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
            yield item, None if item.request.gone else self._prepare_item(item, tokens)

    def answer(self, items: Sequence[WorkItem]) -> list[Result]:
        """Return the result of each item. Never raises; an item that fails does not affect the others.

        If the forward pass of several items fails, each half is computed again. To isolate one failing item in a
        batch of n takes about 2 log2(n) more passes.
        """
        try:
            logits = self._logits(items)
        except BaseException as error:  # raised by the head of a plugin, or by a full GPU
            if len(items) == 1:
                return [self._forward_error(items[0], error)]
            count, half = len(items), len(items) // 2
            _log.warning(
                "a batch of %d texts failed with %s; computing its halves again", count, _kind(error)
            )
            return [*self.answer(items[:half]), *self.answer(items[half:])]
        return [_decode(item, own) for item, own in zip(items, logits, strict=True)]

    def _prepare_item(self, item: WorkItem, tokens: Any) -> OneTrunkError | None:
        """Fill `item.examples` and `item.encoded`, and reload evicted adapters; return the error, if any."""
        if len(tokens) * len(item.held) > self._input_tokens:
            return TooManyTokens(len(tokens), len(item.held), self._input_tokens)
        for loaded in item.held:
            version = loaded.adapter.ref
            try:
                example = loaded.adapter.spec.unlabelled(item.text)
                item.examples.append(example)
                item.encoded.append(self._trunk.encoder.arrange(tokens, example.words))
            except BaseException as error:  # raised by the word splitter of a plugin
                return _answer_error(version, "split", error)
            try:
                if self._trunk.bank.tier(loaded) != "device":
                    self._trunk.registry.adapters([loaded])
            except OneTrunkError as error:
                return AdapterUnavailable(version, error)
            except BaseException as error:
                return _answer_error(version, "the reload", error)
        return None

    def _logits(self, items: Sequence[WorkItem]) -> list[list[np.ndarray]]:
        """Return for each item the logits of each of its adapters, (units, labels)."""
        slots: dict[Key, int] = {}
        adapters: list[Adapter] = []
        jobs = []
        for item in items:
            for loaded, encoded in zip(item.held, item.encoded, strict=True):
                if loaded.key not in slots:
                    slots[loaded.key] = len(adapters)
                    adapters += self._trunk.registry.adapters([loaded])
                jobs.append(LogitsRequest(encoded, slots[loaded.key]))
        logits = iter(compute_logits(self._trunk.trunk, adapters, jobs, self._batch_tokens))
        return [list(islice(logits, len(item.held))) for item in items]

    def _forward_error(self, item: WorkItem, error: BaseException) -> OneTrunkError:
        """Return the error of an item whose forward pass failed.

        It names the first adapter whose own pass fails, or all adapters if each pass succeeds alone.
        """
        versions = [loaded.adapter.ref for loaded in item.held]
        if isinstance(error, OneTrunkError) and not isinstance(error, TaskSpecError):
            return AdapterUnavailable(", ".join(versions), error)
        if len(versions) > 1:
            for i, version in enumerate(versions):
                try:
                    self._logits([item.only(i)])
                except BaseException as own:
                    return _answer_error(version, "the forward pass", own)
        return _answer_error(", ".join(versions), "the forward pass", error)


def _decode(item: WorkItem, logits: Sequence[np.ndarray]) -> Result:
    """Return the answers of an item, or the error of the first adapter whose decoder fails."""
    answers: list[AdapterAnswer] = []
    for name, loaded, example, own in zip(item.names, item.held, item.examples, logits, strict=True):
        adapter = loaded.adapter
        try:
            record = adapter.spec.decode(example, own, adapter.labels, adapter.settings)
        except BaseException as error:  # raised by the decoder of a plugin
            return _answer_error(adapter.ref, "decode", error)
        answers.append(AdapterAnswer(name, adapter.ref, adapter.spec.name, record))
    return answers


def _answer_error(version: str, step: str, error: BaseException) -> OneTrunkError:
    """Log the traceback of a failed step, and return the error of the text."""
    _log.error("%s failed to answer a text: %s raised %s", version, step, _kind(error), exc_info=error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return ExitRefused(version)
    return AnswerFailed(version)


def _kind(error: BaseException) -> str:
    """Return the class name of `error`; for a TaskSpecError, that of its cause."""
    cause = error.__cause__ if isinstance(error, TaskSpecError) else None
    return type(cause or error).__name__
