"""Notes on encoded data: what the words of a task and the tokens of a backbone cannot express."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from onetrunk.core.backbones.tokenization import Encoded, unknown_share
from onetrunk.core.data.notes import Note, task_notes
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.core.tasks.guarded_calls import notes_on

MOST_UNKNOWN = 0.05
"""With a larger share of unknown tokens than this, a note says so."""

_SCRIPTS_SHOWN = 5


def notes_on_encoded(
    spec: TaskSpec, examples: Sequence[Example], encoded: Sequence[Encoded], source: str
) -> list[Note]:
    """Return the notes on one data set.

    examples: with the words that get logits; encoded: of each.
    source: the name of the data set.
    Raises TaskSpecError if `encoded_notes` of the task raises an error.
    """
    notes = task_notes(notes_on(spec, examples, "encoded_notes"), source)
    unknown = _unknown_note(examples, encoded, source)
    return [*notes, unknown] if unknown else notes


def _unknown_note(examples: Sequence[Example], encoded: Sequence[Encoded], source: str) -> Note | None:
    """Return a note if many tokens are unknown to the tokenizer, or all letters of one script are."""
    with_unknown = [(example, own) for example, own in zip(examples, encoded, strict=True) if own.unknown]
    share, scripts = unknown_share(encoded), _unknown_scripts(examples, with_unknown)
    if share <= MOST_UNKNOWN and not scripts:
        return None
    message = f"{100 * share:.3g} % of the tokens are unknown to the tokenizer of the backbone"
    if scripts:
        more = f" and {len(scripts) - _SCRIPTS_SHOWN} more" if len(scripts) > _SCRIPTS_SHOWN else ""
        message += f", among them all letters of {', '.join(scripts[:_SCRIPTS_SHOWN])}{more}"
    message += "; the model cannot tell such texts apart: choose a backbone for the language of the texts"
    count = sum(len(own.unknown) for _, own in with_unknown)
    return Note("unknown-tokens", message, source, count, with_unknown[0][0].where)


def _unknown_scripts(
    examples: Sequence[Example], with_unknown: Sequence[tuple[Example, Encoded]]
) -> list[str]:
    """Return the scripts, such as `CJK` or `HANGUL`, of which all letters in the texts are in unknown tokens."""
    unknown: Counter[str] = Counter()
    for example, own in with_unknown:
        for start, end in own.unknown:
            unknown.update(example.text[start:end])
    if not unknown:
        return []
    every: Counter[str] = Counter()
    for example in examples:
        every.update(example.text)
    here, there = _by_script(unknown), _by_script(every)
    return sorted(script for script, count in here.items() if count == there[script])


def _by_script(characters: Counter[str]) -> Counter[str]:
    """Return the number of letters by the first word of their Unicode names, which is that of the script."""
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        if character.isalpha():
            scripts[unicodedata.name(character, "?").split(maxsplit=1)[0]] += count
    return scripts
