"""Named entity recognition: spans of characters with a type, trained on IOB2 tags or on character spans.

The model has one tag for each word, predicted from its first token; `decode` and `evaluate` use the most probable
valid tags. Training, evaluation and prediction use the same words: those of `split_words`, if the tokenizer tells
them apart. An entity that begins or ends inside a word cannot be learnt, and counts as missed.
Invalid tags in data are repaired: an I-X that does not continue an entity of type X becomes B-X.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onetrunk.core.tasks import (
    IGNORE,
    Entity,
    Example,
    HeadContext,
    JSONObject,
    Labels,
    TaskNote,
    TaskSpec,
    UnknownLabel,
    cross_entropy,
    hookimpl,
    split_words,
)
from onetrunk.core.tasks.entity_records import TRIMMED, read_entity_record
from onetrunk.core.tasks.entity_spans import (
    OUTSIDE,
    entities_of,
    entities_of_tags,
    entity_metrics,
    tags_of_entities,
)
from onetrunk.core.tasks.iob2 import best_iob2
from onetrunk.core.tasks.word_splitter import split_words_1

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


def notes(examples: Sequence[Example]) -> list[TaskNote]:
    """Return notes on entities that were trimmed at reading, and on those that only given words show."""
    cut = [len(_hidden(example)) for example in examples]
    return [
        *_counted(
            "entities-trimmed",
            "begin or end with white space or an invisible character, which is left out",
            examples,
            [example.remarks.count(TRIMMED) for example in examples],
        ),
        *_counted(
            "entities-in-given-words",
            "begin or end inside a word of plain text; they can be predicted for given words only",
            examples,
            cut,
        ),
    ]


def encoded_notes(examples: Sequence[Example]) -> list[TaskNote]:
    """Return a note on the entities that begin or end inside a word."""
    counts = [len(_tagged(example)[1]) for example in examples]
    why = (
        "begin or end inside a word, or inside a token of the backbone; they cannot be learnt or predicted, and "
        "count as missed"
    )
    if sum(counts) > 1 and all(map(_ends_are_inclusive, examples)):
        why += "; all fit with an end that is larger by 1: expected exclusive ends"
    return list(_counted("entities-inside-words", why, examples, counts))


def _counted(kind: str, what: str, examples: Sequence[Example], counts: Sequence[int]) -> list[TaskNote]:
    """Return a note that `what` holds for sum(counts) entities; counts: of each example."""
    count, every = sum(counts), sum(len(example.spans) for example in examples)
    first = next((example.where for example, own in zip(examples, counts, strict=True) if own), "")
    return [TaskNote(kind, f"{count} of {every} entities {what}", count, first)] if count else []


def _tagged(example: Example) -> tuple[list[str | None], list[Entity]]:
    """Return the tag of each word, None for a word with a part of an entity, and the entities cut by words."""
    entities = entities_of(example.spans, example.target or ())
    return tags_of_entities(example.text, SPEC.spans(example), entities)


def _ends_are_inclusive(example: Example) -> bool:
    """Return whether all entities that words cut would fit with an end that is larger by 1."""
    cut = [(start, end + 1, name) for start, end, name in _tagged(example)[1]]
    return all(not tags_of_entities(example.text, SPEC.spans(example), [each])[1] for each in cut)


def _hidden(example: Example) -> list[Entity]:
    """Return the entities that the words of plain text cut, if the record has given words."""
    if not example.words:
        return []
    entities = entities_of(example.spans, example.target or ())
    return tags_of_entities(example.text, split_words(example.text), entities)[1]


def learn_labels(examples: Sequence[Example]) -> Labels:
    """Return "O", then B-X and I-X for each type, sorted. Raises ValueError if the data has no entity."""
    types = sorted({name for example in examples for name in example.target or ()})
    if not types:
        raise ValueError("no entity in the training data; expected tags such as B-PER, or 'entities'")
    return (OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI"))


def targets(example: Example, labels: Labels) -> list[int]:
    """Return the label index of each word, `IGNORE` for a word with a part of an entity.

    Raises UnknownLabel for an entity type; ValueError for a missing target.
    """
    if example.target is None:
        raise ValueError(
            "the record has neither tags nor entities; add them, or name their key with --label-column"
        )
    index = {label: i for i, label in enumerate(labels)}
    for name in example.target:
        if f"B-{name}" not in index:
            known = [label[2:] for label in labels if label.startswith("B-")]
            raise UnknownLabel(name, known, [f"{prefix}-{name}" for prefix in "BI"], "entity type")
    return [IGNORE if tag is None else index[tag] for tag in _tagged(example)[0]]


def support(example: Example) -> int:
    """Return the number of entities of `example`."""
    return len(example.target or ())


def make_head(context: HeadContext) -> nn.Module:
    """Return a token head."""
    from onetrunk.core.tasks.heads import token_head

    return token_head(context)


def decode(example: Example, logits: np.ndarray, labels: Labels, _settings: JSONObject) -> JSONObject:
    """Return {"entities": [{"start", "end", "label", "text", "score"}]}, in the order of the text.

    start, end: in Unicode characters, with an exclusive end.
    score: the mean probability of the tags of the entity over its words.
    logits: (words, labels).
    """
    from onetrunk.core.tasks.metrics import softmax

    words = SPEC.spans(example)
    tags = _best_tags(logits, labels, len(words))
    sure = [row[labels.index(tag)] for row, tag in zip(softmax(logits).tolist(), tags, strict=True)]
    found = []
    for (start, end, label), (first, last) in entities_of_tags(example.text, words, tags):
        score = sum(sure[first:last]) / (last - first)
        found.append(
            {"start": start, "end": end, "label": label, "text": example.text[start:end], "score": score}
        )
    return {"entities": found}


def _best_tags(logits: np.ndarray, labels: Labels, words: int) -> list[str]:
    if len(logits) != words:
        raise ValueError(f"{len(logits)} rows of logits for {words} words; expected one row per word")
    return best_iob2(logits, labels)


def evaluate(
    examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, _settings: JSONObject
) -> JSONObject:
    """Return precision, recall and f1 of whole entities, unreachable, per_type (the same of each type), and token.

    A predicted entity is correct if its characters and its type are equal to those of a gold entity: for tagged
    words, seqeval's strict mode with IOB2, micro average. `unreachable` is the number of gold entities that begin
    or end inside a word; they count as missed. `token` has metrics of single tags. A metric is None if its
    denominator is 0: precision without predicted entities, recall without gold entities.
    Raises ValueError unless each example has one row of logits per word.
    """
    gold = [entities_of(example.spans, example.target) for example in examples]
    tagged = [_tagged(example) for example in examples]
    guessed = [_best_tags(rows, labels, len(tags)) for (tags, _), rows in zip(tagged, logits, strict=True)]
    predicted = [
        [entity for entity, _ in entities_of_tags(example.text, SPEC.spans(example), tags)]
        for example, tags in zip(examples, guessed, strict=True)
    ]
    metrics = entity_metrics(gold, predicted)
    table = metrics.pop("per_type")
    lost = sum(len(cut) for _, cut in tagged)
    token = _token_metrics([tags for tags, _ in tagged], guessed)
    return {**metrics, "unreachable": lost, "per_type": table, "token": token}


def _token_metrics(gold: list[list[str | None]], predicted: list[list[str]]) -> JSONObject:
    """Return metrics of single tags. They are higher than those of entities, because parts of entities count."""
    from onetrunk.core.tasks.metrics import precision_recall_f1, ratio

    pairs = [
        (tag, guess)
        for rows in zip(gold, predicted, strict=True)
        for tag, guess in zip(*rows, strict=True)
        if tag is not None
    ]
    right = [tag for tag, guess in pairs if tag == guess]
    without_o = precision_recall_f1(
        sum(tag != OUTSIDE for tag in right),
        sum(guess != OUTSIDE for _, guess in pairs),
        sum(tag != OUTSIDE for tag, _ in pairs),
    )
    metrics = {f"{name}_micro_without_o": value for name, value in without_o.items()}
    return {"accuracy": ratio(len(right), len(pairs)), **metrics}


SPEC = TaskSpec(
    name="ner",
    summary="named entities, with character offsets",
    level="token",
    read=read_entity_record,
    labels=learn_labels,
    targets=targets,
    make_head=make_head,
    loss=cross_entropy,
    decode=decode,
    evaluate=evaluate,
    primary="f1",
    split=split_words,
    splitter="words-2",
    older_splits={"": split_words_1},
    flexible_words=True,
    notes=notes,
    support=support,
    encoded_notes=encoded_notes,
)


@hookimpl
def tasks() -> list[TaskSpec]:
    """Return the task."""
    return [SPEC]
