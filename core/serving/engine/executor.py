"""From texts to answers: what happens to a text before it waits, and to a batch of them on the device thread."""

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
from onetrunk.core.serving.engine.requests import Answer, Result, Work

_log = logging.getLogger(__name__)


class Answering:
    """Texts to answers by the adapters that the caller holds.

    Plugins and the tokenizer can raise anything, an exit of the process or a panic of native code too, which are no
    `Exception`: here it fails the text that it was raised for, and no thread ends of it.

    batch_tokens: that are computed at once. input_tokens: of a text, times its adapters, at most.
    """

    def __init__(self, trunk: OneTrunk, batch_tokens: int, input_tokens: int) -> None:
        self._trunk, self._batch_tokens, self._input_tokens = trunk, batch_tokens, input_tokens

    def prepare(self, works: Sequence[Work]) -> Iterator[tuple[Work, OneTrunkError | None]]:
        """Tokenise texts, each once, and bring evicted adapters back; yield each work with its error, or None.

        Nothing is done for a work that nobody waits for, which has no error.
        """
        if all(work.owner.gone for work in works):
            yield from ((work, None) for work in works)
            return
        try:
            tokenised = self._trunk.encoder.tokenise([work.text for work in works])
        except BaseException as error:  # of a tokenizer, which says of no text that it was that one
            if len(works) > 1:
                for work in works:
                    yield from self.prepare([work])
            else:
                yield works[0], _fault("the tokenizer", "tokenise", error)
            return
        for work, tokens in zip(works, tokenised, strict=True):
            yield work, None if work.owner.gone else self._prepared(work, tokens)

    def answer(self, works: Sequence[Work]) -> list[Result]:
        """Return the result of each work; never raises, and one that fails leaves the others their answers.

        Where the forward pass of several works fails, each half of them is computed again: a single one that fails
        costs the others two passes each time that their number doubles.
        """
        try:
            logits = self._logits(works)
        except BaseException as error:  # a plugin's head can raise anything, and so can a full GPU
            if len(works) == 1:
                return [self._blamed(works[0], error)]
            count, half = len(works), len(works) // 2
            _log.warning(
                "a batch of %d texts failed with %s; computing its halves again", count, _kind(error)
            )
            return [*self.answer(works[:half]), *self.answer(works[half:])]
        return [_decoded(work, own) for work, own in zip(works, logits, strict=True)]

    def _prepared(self, work: Work, tokens: Any) -> OneTrunkError | None:
        if len(tokens) * len(work.held) > self._input_tokens:
            return TooManyTokens(len(tokens), len(work.held), self._input_tokens)
        for resident in work.held:
            version = resident.adapter.ref
            try:
                example = resident.adapter.spec.unlabelled(work.text)
                work.examples.append(example)
                work.encoded.append(self._trunk.encoder.arrange(tokens, example.words))
            except BaseException as error:  # of a plugin's own
                return _fault(version, "split", error)
            try:
                if self._trunk.registry.tier(resident) != "device":
                    self._trunk.registry.adapters([resident])
            except OneTrunkError as error:
                return AdapterUnavailable(version, error)
            except BaseException as error:
                return _fault(version, "the reload", error)
        return None

    def _logits(self, works: Sequence[Work]) -> list[list[np.ndarray]]:
        """Return for each work the logits of each of its adapters, (units, labels)."""
        slots: dict[Key, int] = {}
        adapters: list[Adapter] = []
        jobs = []
        for work in works:
            for resident, encoded in zip(work.held, work.encoded, strict=True):
                if resident.key not in slots:
                    slots[resident.key] = len(adapters)
                    adapters += self._trunk.registry.adapters([resident])
                jobs.append(LogitsRequest(encoded, slots[resident.key]))
        logits = iter(compute_logits(self._trunk.trunk, adapters, jobs, self._batch_tokens))
        return [list(islice(logits, len(work.held))) for work in works]

    def _blamed(self, work: Work, error: BaseException) -> OneTrunkError:
        """Return the error of a work whose forward pass failed, which names the first adapter that fails alone."""
        versions = [resident.adapter.ref for resident in work.held]
        if isinstance(error, OneTrunkError) and not isinstance(error, TaskSpecError):
            return AdapterUnavailable(", ".join(versions), error)
        if len(versions) > 1:
            for i, version in enumerate(versions):
                try:
                    self._logits([work.only(i)])
                except BaseException as own:
                    return _fault(version, "the forward pass", own)
        return _fault(", ".join(versions), "the forward pass", error)


def _decoded(work: Work, logits: Sequence[np.ndarray]) -> Result:
    """Return the answers of a work, or the error of the first adapter whose decoder fails."""
    answers: list[Answer] = []
    for name, resident, example, own in zip(work.names, work.held, work.examples, logits, strict=True):
        adapter = resident.adapter
        try:
            record = adapter.spec.decode(example, own, adapter.labels, adapter.settings)
        except BaseException as error:  # a plugin's decoder can raise anything
            return _fault(adapter.ref, "decode", error)
        answers.append(Answer(name, adapter.ref, adapter.spec.name, record))
    return answers


def _fault(version: str, step: str, error: BaseException) -> OneTrunkError:
    """Log which step of answering a text failed for `version`, and why; return the error of that text."""
    _log.error("%s failed to answer a text: %s raised %s", version, step, _kind(error), exc_info=error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return ExitRefused(version)
    return AnswerFailed(version)


def _kind(error: BaseException) -> str:
    """Return the class of `error`, or of what a task raised to cause it."""
    cause = error.__cause__ if isinstance(error, TaskSpecError) else None
    return type(cause or error).__name__
