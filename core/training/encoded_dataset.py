"""Encoded data sets: examples, with the token ids of their texts and with their targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.data.dataset import Dataset, check_targets
from onetrunk.core.data.notes import Note
from onetrunk.core.inference.encoded_notes import notes_on_encoded
from onetrunk.core.inference.logits import encode_examples, with_encoded_words
from onetrunk.core.tasks import Example, Labels, Targets, TaskSpec


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """The examples of one split (train, dev or test).

    examples: with the words that get logits.
    encoded: the token ids of each example.
    targets: the targets of each example. The targets of all examples are integers, or all are floats.
    unknown: the labels that the adapter lacks, by index of the example.
    notes: on what the words and the tokens of the backbone cannot express.
    """

    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    targets: tuple[Targets, ...]
    unknown: Mapping[int, Labels] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def __add__(self, other: EncodedDataset) -> EncodedDataset:
        """Return the examples of both."""
        return EncodedDataset(
            self.examples + other.examples, self.encoded + other.encoded, self.targets + other.targets
        )

    @property
    def tokens(self) -> list[int]:
        """The number of tokens of each example."""
        return [encoded.tokens for encoded in self.encoded]

    @property
    def units(self) -> int:
        """The number of words, or of texts if the task has no words: the number of rows of logits."""
        return sum(len(encoded.words) or 1 for encoded in self.encoded)

    def target_tensor(self, indices: Iterable[int]) -> torch.Tensor:
        """Return the concatenated targets of the examples at `indices`, (targets,), int64 or float32."""
        flat = [target for index in indices for target in self.targets[index]]
        kind = next((type(own[0]) for own in self.targets if own), int)
        return torch.tensor(flat, dtype=torch.float32 if kind is float else torch.int64)


def encode_dataset(
    spec: TaskSpec,
    backbone: Backbone,
    examples: Sequence[Example],
    labels: Labels,
    source: str = "",
    *,
    allow_unknown: bool = False,
) -> EncodedDataset:
    """Tokenize the texts of `examples` and compute their targets.

    source: the name of the data set, for notes.
    allow_unknown: see `check_targets`.
    Raises DataError, with file and line, for an invalid target; TaskSpecError if the code of the task fails.
    """
    encoded = encode_examples(backbone.encoder, spec, examples)
    worded = with_encoded_words(spec, examples, encoded)
    checked = check_targets(spec, Dataset(worded, source, ""), labels, allow_unknown=allow_unknown)
    notes = notes_on_encoded(spec, worded, encoded, source)
    return EncodedDataset(worded, tuple(encoded), checked.targets, checked.unknown, tuple(notes))
