"""Records of Argilla's exports: version 1 (`annotation`) and version 2 (`responses`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onetrunk.core.data.formats.base import Source
from onetrunk.core.tasks import JSONObject, Record

FLAT_RESPONSES = ".responses"
"""The end of the columns with responses in data sets that Argilla pushed to the Hub."""

_META = ("id", "metadata")
_STATE = ("id", "_server_id", "status")


def argilla_records(source: Source, where: str, value: JSONObject) -> Iterator[Record]:
    """Yield {"text", "entities"} or {"text", "label"}, with `id` and `metadata`, for a record of Argilla.

    Only answers of annotators count: `annotation`, or the first submitted response. Predictions and suggestions are
    left out, discarded records too; notes count both, and records with several responses.
    Raises ValueError for a record without a text, and for answers to several questions.
    """
    if str(value.get("status")).lower() == "discarded":
        source.tally.add("discarded-records", "discarded records are left out", where)
        return
    record = {key: value[key] for key in _META if key in value}
    flat_fields = {key: each for key, each in value.items() if "." not in key and key not in _STATE}
    fields = next(
        (value[key] for key in ("fields", "inputs") if isinstance(value.get(key), dict)), flat_fields
    )
    record["text"] = _text(source, fields)
    if "fields" in value:
        answers = _responses(source, where, value.get("responses"))
    elif flat := [key for key in value if key.endswith(FLAT_RESPONSES)]:
        answers = _responses(source, where, _nested(value, flat))
    else:
        answers = {} if value.get("annotation") is None else {"annotation": value["annotation"]}
    if not answers and any(
        value.get(key) for key in value if key.endswith(("suggestions", "prediction", ".suggestion"))
    ):
        message = "records have suggestions or predictions, but no answer; they are read without a label"
        source.tally.add("suggestions-ignored", message, where)
    yield {**record, **_annotation(answers)}


def _text(source: Source, fields: JSONObject) -> str:
    strings = [key for key, each in fields.items() if isinstance(each, str)]
    key = source.options.text_column or ("text" if "text" in strings or len(strings) != 1 else strings[0])
    if key not in strings:
        found = ", ".join(strings) or "none"
        raise ValueError(f"expected the text in the field {key!r}; name it with --text-column; found {found}")
    return str(fields[key])


def _responses(source: Source, where: str, responses: Any) -> dict[str, Any]:
    """Return the first submitted response to each question."""
    found: dict[str, list[Any]] = {}
    if isinstance(responses, dict):  # version 2: by question
        for question, each in responses.items():
            own = [one for one in each if isinstance(one, dict)] if isinstance(each, list) else []
            found[question] = [one.get("value") for one in own if _is_submitted(one)]
    elif isinstance(responses, list):  # datasets for feedback of version 1: by annotator
        for one in responses:
            answers = one.get("values") if isinstance(one, dict) and _is_submitted(one) else None
            for question, each in answers.items() if isinstance(answers, dict) else ():
                found.setdefault(question, []).append(each.get("value") if isinstance(each, dict) else each)
    elif responses is not None:
        raise ValueError(f"expected an object or a list under 'responses', found {str(responses)[:80]}")
    if source.options.label_column is not None:
        found = {key: each for key, each in found.items() if key == source.options.label_column}
    if any(len(each) > 1 for each in found.values()):
        source.tally.add(
            "several-annotations", "records with several responses, of which the first counts", where
        )
    return {question: each[0] for question, each in found.items() if each}


def _nested(value: JSONObject, columns: list[str]) -> JSONObject:
    """Return the responses by question from the columns `question.responses` and `question.responses.status`."""
    found = {}
    for column in columns:
        answers, states = value[column] or [], value.get(f"{column}.status") or []
        if (
            not isinstance(answers, list)
            or not isinstance(states, list)
            or len(states) not in (0, len(answers))
        ):
            raise ValueError(f"expected lists of one length under {column!r} and {column + '.status'!r}")
        states = states or ["submitted"] * len(answers)
        found[column.removesuffix(FLAT_RESPONSES)] = [
            {"value": answer, "status": state} for answer, state in zip(answers, states, strict=True)
        ]
    return found


def _is_submitted(response: JSONObject) -> bool:
    return str(response.get("status", "submitted")).lower().rpartition(".")[2] == "submitted"


def _annotation(answers: dict[str, Any]) -> JSONObject:
    """Return the entities of a question on spans, and the label of a question on the text."""
    spans = {key: each for key, each in answers.items() if _is_spans(each)}
    labels = {key: each for key, each in answers.items() if key not in spans and _is_label(each)}
    for kind in (spans, labels):
        if len(kind) > 1:
            raise ValueError(
                f"has answers to the questions {', '.join(kind)}; name the one to learn with --label-column"
            )
    found: JSONObject = {}
    for each in spans.values():
        found["entities"] = [_span(span) for span in each]
    for each in labels.values():
        found["label"] = each
    if found.get("label") == []:
        found["entities"] = []
    return found


def _span(span: Any) -> Any:
    """Return an entity; version 1 writes [type, start, end]."""
    if isinstance(span, dict):
        return {key: each for key, each in span.items() if key in ("start", "end", "label")}
    return [span[1], span[2], span[0]]


def _is_spans(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_span(each) for each in value)


def _is_span(value: Any) -> bool:
    if isinstance(value, dict):
        return {"start", "end", "label"} <= set(value)
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int) or (
        isinstance(value, list) and all(isinstance(each, str) for each in value)
    )
