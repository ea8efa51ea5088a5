"""From texts to answers: what happens to a text before it waits, and to a batch of them on the device thread."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.logits import Job, compute_logits
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.inference.registry import Key
from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed, TooManyTokens
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
        except BaseException:  # of a tokenizer, which says of no text that it was that one
            if len(works) > 1:
                for work in works:
                    yield from self.prepare([work])
            else:
                _log.exception("the tokenizer failed on a text")
                yield works[0], AnswerFailed("the tokenizer")
            return
        for work, tokens in zip(works, tokenised, strict=True):
            yield work, None if work.owner.gone else self._prepared(work, tokens)

    def answer(self, works: Sequence[Work]) -> list[Result]:
        """Return the result of each work; never raises, and one that fails leaves the others their answers."""
        try:
            return list(self._together(works))
        except (
            BaseException
        ) as error:  # a plugin's head and decoder can raise anything, and so can a full GPU
            if len(works) > 1:
                return [self.answer([work])[0] for work in works]
            return [self._blamed(works[0], error)]

    def _prepared(self, work: Work, tokens: Any) -> OneTrunkError | None:
        if len(tokens) * len(work.held) > self._input_tokens:
            return TooManyTokens(len(tokens), len(work.held), self._input_tokens)
        for resident in work.held:
            version = resident.adapter.ref
            try:
                example = resident.adapter.spec.unlabelled(work.text)
                work.examples.append(example)
                work.encoded.append(self._trunk.encoder.arrange(tokens, example.words))
                if self._trunk.residents.tier(resident) != "device":
                    self._trunk.residents.adapters([resident])
            except OneTrunkError as error:
                return AdapterUnavailable(version, error)
            except BaseException:  # of a plugin's own
                _log.exception("%s failed to split a text", version)
                return AnswerFailed(version)
        return None

    def _together(self, works: Sequence[Work]) -> list[Result]:
        slots: dict[Key, int] = {}
        adapters: list[Adapter] = []
        jobs = []
        for work in works:
            for resident, encoded in zip(work.held, work.encoded, strict=True):
                if resident.key not in slots:
                    slots[resident.key] = len(adapters)
                    adapters += self._trunk.residents.adapters([resident])
                jobs.append(Job(encoded, slots[resident.key]))
        first = self._trunk.backbone.first_position
        logits = iter(compute_logits(self._trunk.trunk, first, adapters, jobs, self._batch_tokens))
        return [
            [
                Answer(
                    name,
                    resident.adapter.ref,
                    resident.adapter.spec.name,
                    resident.adapter.spec.decode(
                        example, next(logits), resident.adapter.labels, resident.adapter.settings
                    ),
                )
                for name, resident, example in zip(work.names, work.held, work.examples, strict=True)
            ]
            for work in works
        ]

    def _blamed(self, work: Work, error: BaseException) -> OneTrunkError:
        """Return the error of a work that failed by itself, which names the first of its adapters that fails."""
        versions = [resident.adapter.ref for resident in work.held]
        if isinstance(error, OneTrunkError):
            return AdapterUnavailable(", ".join(versions), error)
        for i, version in enumerate(versions):
            alone = work.only(i)
            try:
                self._together([alone])
            except BaseException:
                _log.exception("%s failed to answer a text", version)
                return AnswerFailed(version)
        _log.error("%s failed to answer a text together", ", ".join(versions), exc_info=error)
        return AnswerFailed(", ".join(versions))
