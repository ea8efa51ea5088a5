"""Named entity recognition: spans of words with a type, trained on IOB2 tags or on character spans.

Each word has one tag, predicted from its first token. `decode` and `evaluate` use the most probable valid tags.
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
from onetrunk.core.tasks.iob2 import best_iob2, entity_metrics, to_iob2

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

OUTSIDE = "O"


def read(record: Record) -> Example:
    """Read a record of one of three forms. Without tags and entities the target is None.

    {"words" or "tokens", "tags" or "ner_tags"}: one tag per word, in a scheme that `to_iob2` converts.
    {"text", "tags"}: one tag per word, where white space separates the words.
    {"text", "entities": [{"start", "end", "label"}]}: spans in characters. An entity that begins or ends inside a
        word is widened to whole words, and `remarks` reports it. If two entities share a word, the word is split at
        the start of the second entity.
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
    ends = accumulate(len(word) + 1 for word in words)
    spans = tuple((end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True))
    if tags is None:
        return Example(" ".join(words), words=spans)
    if isinstance(tags, list | tuple) and any(type(tag) is int for tag in tags):
        raise ValueError(
            "the tags are integers; give their names in order with --labels O,B-PER,… or --labels FILE, or put the "
            "dataset_info.json of the data set beside the file"
        )
    _check_strings("tags", tags)
    if len(tags) != len(words):
        raise ValueError(f"expected one tag per word, found {len(tags)} tags for {len(words)} words")
    return Example(" ".join(words), tuple(to_iob2(tags)), spans)


def _check_strings(name: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"expected a list of strings under {name!r}, found {str(values)[:80]}")


def _read_entities(text: str, records: Any) -> Example:
    entities = checked_entities(text, records)
    words = split_words(text)
    cuts = [
        later[0]
        for earlier, later in pairwise(entities)
        if _words_touched(words, *earlier[:2])[1] > _words_touched(words, *later[:2])[0]  # they share a word
    ]
    words = tuple(
        part
        for start, end in words
        for part in pairwise([start, *(cut for cut in cuts if start < cut < end), end])
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
    """Return the range, with an exclusive end, of the words that have a character in start:end of the text."""
    first = bisect_right(words, start, key=lambda word: word[1])
    return first, bisect_left(words, end, key=lambda word: word[0])


def notes(examples: Sequence[Example]) -> list[str]:
    """Return a note on the number of entities that `read` widened. Metrics compare with the widened spans."""
    widened = [example for example in examples if example.remarks]
    if not widened:
        return []
    count = sum(len(example.remarks) for example in widened)
    total = sum(tag.startswith("B-") for example in examples for tag in example.target or ())
    first = f"{widened[0].where or 'one'}: {widened[0].remarks[0]}"
    return [
        f"{count} of {total} entities were widened to whole words for training and metrics; first: {first}"
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
    return best_iob2(logits, labels)


def _entities(tags: Sequence[str]) -> Iterator[Entity]:
    """Yield the entities of valid IOB2 tags; start and end are in words."""
    for start in (i for i, tag in enumerate(tags) if tag.startswith("B-")):
        end = start + 1
        while end < len(tags) and tags[end].startswith("I-"):
            end += 1
        yield start, end, tags[start][2:]


def evaluate(
    examples: Sequence[Example], logits: Sequence[np.ndarray], labels: Labels, _settings: JSONObject
) -> JSONObject:
    """Return precision, recall and f1 of whole entities, per_type (the same of each type), and token.

    A predicted entity is correct if its words and its type are equal to those of a gold entity: seqeval's strict
    mode with IOB2, micro average. `token` has metrics of single tags. A metric is None if its denominator is 0:
    precision without predicted entities, recall without gold entities.
    Raises ValueError unless each example has one row of logits per word.
    """
    gold = [to_iob2(example.target) for example in examples]
    predicted = [_best_tags(rows, labels, len(tags)) for tags, rows in zip(gold, logits, strict=True)]
    return {**entity_metrics(gold, predicted), "token": _token_metrics(gold, predicted)}


def _token_metrics(gold: list[list[str]], predicted: list[list[str]]) -> JSONObject:
    """Return metrics of single tags. They are higher than those of entities, because parts of entities count."""
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
