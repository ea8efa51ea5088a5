"""Records of Prodigy's databases (`prodigy db-out`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onetrunk.core.data.formats.base import Source
from onetrunk.core.tasks import JSONObject, Record

_OWN_KEYS = (
    "spans",
    "tokens",
    "answer",
    "accept",
    "options",
    "label",
    "relations",
    "labels",
    "config",
    "style",
)
_ANSWERS = ("accept", "reject", "ignore")


def prodigy_records(source: Source, where: str, value: JSONObject) -> Iterator[Record]:
    """Yield {"text", "entities"} or {"text", "label"}, with the other keys, for a record of Prodigy.

    Records with the answer `reject` or `ignore` are left out, with a note. Spans are {"start", "end", "label"}.
    The label is the accepted option, or `label` of an accepted binary question.
    Raises ValueError for a record without a text and an unknown answer.
    """
    text, answer = value.get("text"), value.get("answer", "accept")
    if not isinstance(text, str):
        raise ValueError(f"expected a string under 'text', as Prodigy writes it; found {', '.join(value)}")
    if answer not in _ANSWERS:
        raise ValueError(f"the answer is {str(answer)[:40]!r}; expected one of {', '.join(_ANSWERS)}")
    if answer != "accept":
        message = f"records with the answer {answer!r} are left out"
        source.tally.add("answer-not-accepted", message, where)
        return
    record = {key: each for key, each in value.items() if key not in _OWN_KEYS and not key.startswith("_")}
    if value.get("relations"):
        source.tally.add("relations-ignored", "records with relations, which are ignored", where)
    spans = value.get("spans")
    if spans is not None:
        record["entities"] = spans
        if value.get("_view_id") == "ner":
            message = "records answer one span alone; other words count as outside of entities"
            source.tally.add("binary-spans", message, where)
    if "accept" in value:
        record["label"] = _accepted(value)
    elif spans is None and value.get("label") is not None:
        record["label"] = value["label"]
    yield {**record, "text": text}


def _accepted(value: JSONObject) -> list[Any]:
    """Return the accepted options by id, or by text if the ids are numbers."""
    accepted = value["accept"]
    if not isinstance(accepted, list):
        raise ValueError(f"expected a list under 'accept', as Prodigy writes it; found {str(accepted)[:80]}")
    options = value.get("options")
    known = [each for each in options if isinstance(each, dict)] if isinstance(options, list) else []
    texts = {each["id"]: each.get("text") for each in known if isinstance(each.get("id"), int)}
    return [texts.get(each) or each if isinstance(each, int) else each for each in accepted]
