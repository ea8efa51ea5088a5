"""The data of a run, ready for the trunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded
from onetrunk.core.inference.logits import encode_examples
from onetrunk.core.tasks import Example, Labels, TaskSpec


@dataclass(frozen=True, slots=True)
class Corpus:
    """Examples, encoded, with one list of target indices each."""

    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    targets: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> list[int]:
        """Tokens of each example."""
        return [encoded.tokens for encoded in self.encoded]


def make_corpus(spec: TaskSpec, backbone: Backbone, examples: Sequence[Example], labels: Labels) -> Corpus:
    """Tokenise `examples` and map their targets to indices. Raises what `spec.targets` raises."""
    encoded = encode_examples(backbone.encoder(), spec, examples)
    return Corpus(tuple(examples), tuple(encoded), tuple(tuple(spec.targets(e, labels)) for e in examples))
