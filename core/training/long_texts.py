"""Bounds the length of training texts, because a step keeps the hidden states of a whole text in memory.

Evaluation and prediction are not bounded in this way: without gradients, the windows of a text run one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onetrunk.core.backbones.tokenization import Encoded, TextEncoder
from onetrunk.core.data.notes import Note
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Example, Targets, TaskSpec
from onetrunk.core.training.encoded_dataset import EncodedDataset

_Row = tuple[Example, Encoded, Targets]


@dataclass(frozen=True, slots=True)
class TextLimit:
    """The limit of the length of training texts.

    windows: the largest number of windows of a text.
    """

    encoder: TextEncoder
    spec: TaskSpec
    windows: int

    def apply(self, train: EncodedDataset) -> tuple[EncodedDataset, list[Note]]:
        """Return `train` without longer texts, and notes on what was done with them.

        A text with one target per word becomes several, with all of its words. Of any other text, the beginning
        is kept. Raises DataError, with file and line, for a text of words whose targets cannot be divided.
        """
        rows = list(zip(train.examples, train.encoded, train.targets, strict=True))
        long = [example for example, encoded, _ in rows if len(encoded.windows) > self.windows]
        if not long:
            return train, []
        whole = [part for row in rows for part in self._parts(*row)]
        examples, encoded, targets = zip(*whole, strict=True)
        return EncodedDataset(examples, encoded, targets, notes=train.notes), [
            self._note(long, len(whole) - len(rows))
        ]

    def _parts(self, example: Example, encoded: Encoded, targets: Targets) -> Iterator[_Row]:
        if len(encoded.windows) <= self.windows:
            yield example, encoded, targets
            return
        most = self.encoder.most_tokens(self.windows)
        if self.spec.level == "text":
            yield example, self.encoder.part(encoded, 0, most), targets
            return
        if len(targets) != len(encoded.words):
            raise DataError(
                example.where,
                f"the text has {len(encoded.windows)} windows, at most {self.windows} are trained on, and task "
                f"{self.spec.name!r} does not have one target per word to divide it; raise --max-windows, or "
                "divide the text",
            )
        start = done = 0
        while start < encoded.rows - 2:
            stop = self._border(encoded, start, most)
            part = self.encoder.part(encoded, start, stop)
            yield example, part, targets[done : done + len(part.words)]
            start, done = stop, done + len(part.words)

    def _border(self, encoded: Encoded, start: int, most: int) -> int:
        """Return the end of a part of at most `most` tokens: before a word if there is one."""
        end = encoded.rows - 2
        if end - start <= most:
            return end
        words = encoded.words - 1
        borders = words[(words > start) & (words <= start + most)]
        return int(borders[-1]) if len(borders) else start + most

    def _note(self, long: list[Example], added: int) -> Note:
        count = f"{len(long)} texts of train have" if len(long) > 1 else "1 text of train has"
        done = f"training divides such a text into parts, {added} more in all"
        if self.spec.level == "text":
            done = "training reads the beginning of such a text; evaluation and prediction read all of it"
        message = f"{count} more than {self.windows} windows of the backbone (--max-windows): {done}"
        return Note("long-texts", message, "train", len(long), long[0].where)
