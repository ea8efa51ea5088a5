"""Encoded data sets: examples, with the token ids of their texts and with their targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.data.notes import Note
from onetrunk.core.errors import DataError
from onetrunk.core.inference.encoded_notes import notes_on_encoded
from onetrunk.core.inference.logits import encode_examples, with_encoded_words
from onetrunk.core.tasks import Example, Labels, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import targets_of


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """The examples of one split (train, dev or test).

    examples: with the words that get logits.
    encoded: the token ids of each example.
    targets: the targets of each example. The targets of all examples are integers, or all are floats.
    notes: on what the words and the tokens of the backbone cannot express.
    """

    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    targets: tuple[Targets, ...]
    notes: tuple[Note, ...] = ()

    @property
    def tokens(self) -> list[int]:
        """The number of tokens of each example."""
        return [encoded.tokens for encoded in self.encoded]

    def target_tensor(self, indices: Iterable[int]) -> torch.Tensor:
        """Return the concatenated targets of the examples at `indices`, (targets,), int64 or float32."""
        flat = [target for index in indices for target in self.targets[index]]
        kind = next((type(own[0]) for own in self.targets if own), int)
        return torch.tensor(flat, dtype=torch.float32 if kind is float else torch.int64)


def encode_dataset(
    spec: TaskSpec, backbone: Backbone, examples: Sequence[Example], labels: Labels, source: str = ""
) -> EncodedDataset:
    """Tokenize the texts of `examples` and compute their targets.

    source: the name of the data set, for notes.
    Raises DataError, with file and line, for an invalid target; TaskSpecError if the code of the task fails.
    """
    encoded = encode_examples(backbone.encoder, spec, examples)
    examples = with_encoded_words(spec, examples, encoded)
    targets: list[Targets] = []
    before: Targets = ()
    for example in examples:
        try:
            targets.append(targets_of(spec, example, labels, before))
        except ValueError as fault:
            raise DataError(example.where, str(fault)) from fault
        before = targets[-1] or before
    notes = notes_on_encoded(spec, examples, encoded, source)
    return EncodedDataset(tuple(examples), tuple(encoded), tuple(targets), tuple(notes))
