"""What the tokenizer of a backbone makes of a data set: lengths in tokens, windows, unknown tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onetrunk.core.backbones.tokenization import TextEncoder
from onetrunk.core.data.data_report import Lengths
from onetrunk.core.data.dataset import Dataset
from onetrunk.core.data.notes import Note, task_notes
from onetrunk.core.inference.logits import encode_examples, ignore, with_encoded_words
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.core.tasks.guarded_calls import notes_on

LONG_WINDOWS = 8
"""A text with more windows than this gets a note."""
MOST_UNKNOWN = 0.05
"""With a larger share of unknown tokens, the model cannot tell texts apart."""
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class TokenReport:
    """The tokens of a data set.

    tokens: of the texts, special tokens included.
    windows: of the longest text. A window has at most as many tokens as the backbone has positions.
    unknown: the share of tokens that are not in the vocabulary.
    notes: on very long texts, on many unknown tokens, and those of the task on the words that get logits.
    """

    tokens: Lengths
    windows: int
    unknown: float
    notes: tuple[Note, ...]


def report_tokens(
    encoder: TextEncoder, spec: TaskSpec, dataset: Dataset, advance: Callable[[int], None] = ignore
) -> TokenReport:
    """Tokenize the texts of `dataset`, in bounded memory.

    advance: called with the number of texts that were tokenized since its last call.
    Raises TaskSpecError if the task's `split` raises an error.
    """
    tokens: list[int] = []
    windows: list[int] = []
    worded: list[Example] = []
    unknown = 0
    for start in range(0, len(dataset.examples), _CHUNK):
        chunk = dataset.examples[start : start + _CHUNK]
        encoded = encode_examples(encoder, spec, chunk)
        if spec.encoded_notes is not None:
            worded += with_encoded_words(spec, chunk, encoded)
        for text in encoded:
            tokens.append(text.rows)
            windows.append(len(text.windows))
            unknown += sum(int((ids == encoder.unknown).sum()) for ids in text.windows)
        advance(len(chunk))
    notes = task_notes(notes_on(spec, worded, "encoded_notes"), dataset.source)
    if long := [row for row, count in enumerate(windows) if count > LONG_WINDOWS]:
        have = "1 text has" if len(long) == 1 else f"{len(long):,} texts have"
        message = (
            f"{have} more than {LONG_WINDOWS} windows of the backbone, the longest {max(tokens):,} tokens; "
            "such texts are slow to train on; divide them if their parts have labels of their own"
        )
        notes.append(Note("long-texts", message, dataset.source, len(long), dataset.examples[long[0]].where))
    share = unknown / max(1, sum(tokens))
    if share > MOST_UNKNOWN:
        message = (
            f"{share:.1%} of the tokens are unknown to the tokenizer; choose a backbone for the language"
        )
        notes.append(Note("unknown-tokens", message, dataset.source, unknown))
    return TokenReport(Lengths.of(tokens), max(windows), share, tuple(notes))
