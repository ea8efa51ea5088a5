"""Named entity recognition: spans of words with a type, trained on IOB2 tags or on character spans.

Only the first token of a word gets a tag. `decode` and `evaluate` use the most probable valid IOB2 sequence.
Invalid tags in data are repaired: an I-X that does not continue an entity of type X becomes B-X.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from onetrunk.core.tasks import (
    Entity,
    Example,
    HeadContext,
    JSONObject,
    Labels,
    Record,
    Span,
    TaskSpec,
    checked_entities,
    cross_entropy,
    hookimpl,
    split_words,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

OUTSIDE = "O"


def read(record: Record) -> Example:
    """Read a record of one of three forms. Without tags and entities the target is None.

    {"words" or "tokens", "tags" or "ner_tags"}: one tag per word, in any IOB scheme.
    {"text", "tags"}: one tag per chunk between white space.
    {"text", "entities": [{"start", "end", "label"}]}: spans in characters. An entity that begins or ends inside a
    word is widened to whole words, which is noted in `remarks`. If two entities meet in one word, the word is split
    at the start of the second entity.
    Raises ValueError for other records.
    """
    words, tags = _first(record, "words", "tokens"), _first(record, "tags", "ner_tags")
    text, entities = record.get("text"), record.get("entities")
    if words is not None:
        return _read_words(words, tags)
    if not isinstance(text, str):
        raise ValueError(
            f"expected a list under 'words' or a string under 'text'; the record has {sorted(record)}"
        )
    if tags is not None:
        return _read_words(text.split(), tags)
    return Example(text) if entities is None else _read_entities(text, entities)


def _first(record: Record, *keys: str) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _read_words(words: Any, tags: Any) -> Example:
    _check_strings("words", words)
    for number, word in enumerate(words, 1):
        if not word.strip() or len(word.splitlines()) > 1:
            raise ValueError(
                f"word {number} is {word!r}; expected at least one visible character, and no line end"
            )
    ends = list(accumulate(len(word) + 1 for word in words))
    spans = tuple((end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True))
    return Example(" ".join(words), None if tags is None else _read_tags(tags, len(words)), spans)


def _read_tags(tags: Any, words: int) -> tuple[str, ...]:
    from onetrunk.core.tasks.iob2 import to_iob2

    if isinstance(tags, list | tuple) and any(type(tag) is int for tag in tags):
        raise ValueError(
            "the tags are integers; give their names in order with --labels O,B-PER,… or --labels FILE, or put the "
            "dataset_info.json of the data set beside the file"
        )
    _check_strings("tags", tags)
    if len(tags) != words:
        raise ValueError(f"expected one tag per word, found {len(tags)} tags for {words} words")
    return tuple(to_iob2(tags))


def _check_strings(name: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"expected a list of strings under {name!r}, found {str(values)[:80]}")


def _read_entities(text: str, records: Any) -> Example:
    entities = checked_entities(text, records)
    words = split_words(text)
    words = tuple(
        _cut(words, {later[0] for earlier, later in pairwise(entities) if _share_word(words, earlier, later)})
    )
    tags = [OUTSIDE] * len(words)
    remarks: list[str] = []
    for start, end, label in entities:
        first, last = _words_touched(words, start, end)
        tags[first:last] = [f"B-{label}", *[f"I-{label}"] * (last - first - 1)]
        wide = min(start, words[first][0]), max(end, words[last - 1][1])
        if wide != (start, end):
            remarks.append(f"{label} {start}:{end} became {wide[0]}:{wide[1]}, {text[slice(*wide)]!r}")
    return Example(text, tuple(tags), words, remarks=tuple(remarks))


def _words_touched(words: Sequence[Span], start: int, end: int) -> Span:
    """Return the range of words that have a character in start:end, with an exclusive end."""
    first = bisect_right(words, start, key=lambda word: word[1])
    return first, bisect_left(words, end, key=lambda word: word[0])


def _share_word(words: Sequence[Span], earlier: Entity, later: Entity) -> bool:
    return _words_touched(words, *earlier[:2])[1] > _words_touched(words, *later[:2])[0]


def _cut(words: Sequence[Span], cuts: set[int]) -> Iterator[Span]:
    for start, end in words:
        inner = sorted(cut for cut in cuts if start < cut < end)
        yield from pairwise([start, *inner, end])


def notes(examples: Sequence[Example]) -> list[str]:
    """Report the number of entities that `read` widened; metrics compare with the widened spans."""
    widened = [example for example in examples if example.remarks]
    if not widened:
        return []
    some = sum(len(example.remarks) for example in widened)
    every = sum(tag.startswith("B-") for example in examples for tag in example.target or ())
    first = f"{widened[0].where or 'one'}: {widened[0].remarks[0]}"
    return [
        f"{some} of {every} entities were widened to whole words for training and metrics; first: {first}"
    ]


def learn_labels(examples: Sequence[Example]) -> Labels:
    """Return "O", then B-X and I-X for each type, sorted. Raises ValueError if the data has no entity."""
    types = sorted({tag[2:] for example in examples for tag in example.target or () if tag != OUTSIDE})
    if not types:
        raise ValueError("no entity in the training data; expected tags such as B-PER, or 'entities'")
    return (OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI"))


def targets(example: Example, labels: Labels) -> list[int]:
    """Return the label index of each word. Raises ValueError for missing tags and an unknown entity type."""
    if example.target is None:
        raise ValueError("the record has neither tags nor entities")
    index = {label: i for i, label in enumerate(labels)}
    for tag in example.target:
        if tag not in index:
            known = ", ".join(label[2:] for label in labels if label.startswith("B-"))
            raise ValueError(f"unknown entity type {tag[2:]!r}; known: {known}")
    return [index[tag] for tag in example.target]


def make_head(context: HeadContext) -> nn.Module:
    """Return a token head."""
    from onetrunk.core.tasks.heads import token_head

    return token_head(context)


def decode(example: Example, logits: np.ndarray, labels: Labels, _settings: JSONObject) -> JSONObject:
    """Return {"entities": [{"start", "end", "label", "text", "score"}]}, in the order of the text.

    start, end: in characters, with an exclusive end.
    score: the mean probability of the tags of the entity over its words.
    logits: (words, labels).
    """
    from onetrunk.core.tasks.metrics import softmax

    words = SPEC.spans(example)
    tags = _best_tags(logits, labels, len(words))
    sure = [row[labels.index(tag)] for row, tag in zip(softmax(logits).tolist(), tags, strict=True)]
    found = []
    for first, last, label in _entities(tags):
        start, end = words[first][0], words[last - 1][1]
        score = sum(sure[first:last]) / (last - first)
        found.append(
            {"start": start, "end": end, "label": label, "text": example.text[start:end], "score": score}
        )
    return {"entities": found}


def _best_tags(logits: np.ndarray, labels: Labels, words: int) -> list[str]:
    if len(logits) != words:
        raise ValueError(f"{len(logits)} rows of logits for {words} words; expected one row per word")
    from onetrunk.core.tasks.iob2 import best_iob2

    return best_iob2(logits, labels)


def _entities(tags: Sequence[str]) -> Iterator[Entity]:
    """Yield the entities of valid IOB2 tags, with start and end in words."""
    starts = [i for i, tag in enumerate(tags) if tag.startswith("B-")]
    for start in starts:
        end = start + 1
        while end < len(tags) and tags[end].startswith("I-"):
            end += 1
        yield start, end, tags[start][2:]


def evaluate(
    examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, _settings: JSONObject
) -> JSONObject:
    """Return precision, recall and f1 of whole entities, the table per_type, and the table token.

    An entity is correct if its words and its type are: seqeval's strict mode with IOB2, micro average. A metric is
    None if its denominator is 0: precision without predicted entities, recall without gold entities.
    Raises ValueError unless each example has one row of logits per word.
    """
    from onetrunk.core.tasks.iob2 import entity_metrics, to_iob2

    gold = [to_iob2(example.target) for example in examples]
    predicted = [_best_tags(rows, labels, len(tags)) for tags, rows in zip(gold, logits, strict=True)]
    return {**entity_metrics(gold, predicted), "token": _token_metrics(gold, predicted)}


def _token_metrics(gold: list[list[str]], predicted: list[list[str]]) -> JSONObject:
    """Return metrics of single tags. They are optimistic: most words are `O`, and a part of an entity counts."""
    from onetrunk.core.tasks.metrics import precision_recall_f1, ratio

    pairs = [pair for rows in zip(gold, predicted, strict=True) for pair in zip(*rows, strict=True)]
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
    read=read,
    labels=learn_labels,
    targets=targets,
    make_head=make_head,
    loss=cross_entropy,
    decode=decode,
    evaluate=evaluate,
    primary="f1",
    split=split_words,
    notes=notes,
)


@hookimpl
def tasks() -> list[TaskSpec]:
    """Return the task."""
    return [SPEC]
