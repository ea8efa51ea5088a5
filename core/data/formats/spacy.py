"""Training data of spaCy: pairs of text and annotations, and the JSON of version 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onetrunk.adapters.format.strict_json import JSON
from onetrunk.core.data.formats.base import Source
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import JSONObject, Record

_EXPECTED = (
    'expected [text, {"entities": [[0, 3, "X"]]}], {"text": …, "entities": …} or {"text": …, "cats": …}, '
    'or a document with "paragraphs"'
)
_MISSING = "-"  # no annotation of this token
_LIKELY = 0.5


def spacy_records(_source: Source, _where: str, value: JSON) -> Iterator[Record]:
    """Yield {"text", "entities", "label"}, or, for JSON of version 2, {"words", "tags", "spaces", "text", "label"}.

    Each paragraph of version 2 is a record. The label is the category of `cats` with a value of at least 0.5; it is
    a list. Keys that the annotations lack are left out.
    Raises ValueError for other records, and for tokens of which only a part is annotated.
    """
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict):
        value = {**value[1], "text": value[0]}
    if isinstance(value, dict) and isinstance(value.get("paragraphs"), list):
        for paragraph in value["paragraphs"]:
            yield _paragraph(paragraph)
        return
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise ValueError(f"{_EXPECTED}; found {str(value)[:80]}")
    record = {key: each for key, each in value.items() if key not in ("cats", "label")}
    label = value.get("label") if value.get("cats") is None else _label(value["cats"])
    yield {**record, **({} if label is None else {"label": label})}


def read_docbin(source: Source) -> Iterator[tuple[int, Record]]:
    """Raise DataError that says how to convert a DocBin: its types are numbers that only spaCy's tables resolve."""
    convert = (
        "import json, spacy; from spacy.tokens import DocBin; "
        f"docs = DocBin().from_disk({source.file.name!r}).get_docs(spacy.blank('en').vocab); "
        "print(*(json.dumps({'text': d.text, 'entities': [[e.start_char, e.end_char, e.label_] for e in d.ents], "
        "'cats': d.cats}) for d in docs), sep='\\n', file=open('train.jsonl', 'w'))"
    )
    raise DataError(source.name, f"is a DocBin, which only spaCy can read; convert it to JSONL: {convert}")
    yield  # a reader is a generator


def _label(cats: Any) -> list[str]:
    if isinstance(cats, list):  # [{"label": "X", "value": 1.0}]
        cats = {str(each.get("label")): each.get("value") for each in cats if isinstance(each, dict)}
    if not isinstance(cats, Mapping) or not all(isinstance(each, int | float) for each in cats.values()):
        raise ValueError(f"expected numbers by category under 'cats', found {str(cats)[:80]}")
    return [str(name) for name, value in cats.items() if value >= _LIKELY]


def _paragraph(paragraph: Any) -> Record:
    sentences = paragraph.get("sentences") if isinstance(paragraph, dict) else None
    if not isinstance(sentences, list):
        raise ValueError(f"{_EXPECTED}; a paragraph has no 'sentences'")
    tokens: list[Any] = [
        token for sentence in sentences for token in (sentence["tokens"] if _has_tokens(sentence) else [None])
    ]
    if not all(isinstance(token, dict) and isinstance(token.get("orth"), str) for token in tokens):
        raise ValueError(f"{_EXPECTED}; a token has no string under 'orth'")
    tokens = [token for token in tokens if token["orth"].strip()]
    words, tags = [token["orth"] for token in tokens], [token.get("ner", _MISSING) for token in tokens]
    record: JSONObject = {"words": words} if words else {}
    if missing := tags.count(_MISSING):
        if missing < len(tags):
            raise ValueError(
                f"{missing} of {len(tags)} tokens have no entity annotation ('-'); annotate them"
            )
    elif tags:
        record["tags"] = tags
    raw = paragraph.get("raw")
    if isinstance(raw, str) and (spaces := _spaces(raw, words)) is not None:
        record["spaces"] = spaces
    record["text"] = raw if isinstance(raw, str) else " ".join(words)
    if paragraph.get("cats"):
        record["label"] = _label(paragraph["cats"])
    return record


def _has_tokens(sentence: Any) -> bool:
    return isinstance(sentence, dict) and isinstance(sentence.get("tokens"), list)


def _spaces(raw: str, words: list[str]) -> list[bool] | None:
    """Return for each word whether white space follows it in `raw`; None if the words are not those of `raw`."""
    spaces: list[bool] = []
    at = 0
    for word in words:
        start = raw.find(word, at)
        if start < 0 or raw[at:start].strip():
            return None
        if spaces:
            spaces[-1] = start > at
        at = start + len(word)
        spaces.append(at < len(raw))
    return None if raw[at:].strip() else spaces
