"""Records of Label Studio's exports: JSON and JSON_MIN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onetrunk.core.data.formats.base import Source
from onetrunk.core.tasks import JSONObject, Record

_META = frozenset(
    ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "predictions", "meta")
)
_EXPECTED = "expected a task of Label Studio with 'data' and 'annotations', or a record of its JSON_MIN"


def label_studio_records(source: Source, where: str, value: JSONObject) -> Iterator[Record]:
    """Yield {"text", "entities"} or {"text", "label"}, with the other data, for a task of Label Studio.

    JSON: the first annotation that is not cancelled counts; if there are several, or if all are cancelled, a note
    says so. A task without annotations has no entities and no label. JSON_MIN: one record is one annotation.
    The text is the value `text` of the data, or the only one that is a string, or that of `--text-column`.
    Raises ValueError for a task without a text, or with answers to several questions.
    """
    data = value.get("data")
    if not isinstance(data, dict):
        yield _minimal(source, value)
        return
    text_key, text = _text(source, data)
    rest = {key: each for key, each in data.items() if key != text_key}
    record = {**({"id": value["id"]} if "id" in value else {}), **rest, "text": text}
    annotations = value.get("annotations", value.get("completions")) or []
    if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
        raise ValueError(_EXPECTED)
    kept = [each for each in annotations if not each.get("was_cancelled")]
    if annotations and not kept:
        source.tally.add("cancelled-tasks", "tasks whose annotations are all cancelled are left out", where)
        return
    if len(kept) > 1:
        message = "tasks with several annotations, of which the first that is not cancelled counts"
        source.tally.add("several-annotations", message, where)
    yield {**record, **_result(source, where, text, kept[0].get("result") or [])} if kept else record


def _result(source: Source, where: str, text: str, results: Any) -> JSONObject:
    """Return the entities or the label of the regions of an annotation."""
    entities: list[JSONObject] = []
    choices: dict[str, list[Any]] = {}
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise ValueError(_EXPECTED)
    for result in results:
        value = result.get("value")
        if isinstance(value, dict) and "choices" in value and "start" not in value:
            choices.setdefault(str(result.get("from_name")), []).extend(_list(value["choices"]))
        elif isinstance(value, dict) and _span_types(value):
            entities += _entities([value], text)
        else:
            kind = str(result.get("type"))[:40]
            source.tally.add("results-ignored", f"results of the type {kind!r} are ignored", where)
    label = _one_question(source, choices)
    if label is None:
        return {"entities": entities}
    return {"label": label, **({"entities": entities} if entities else {})}


def _minimal(source: Source, value: JSONObject) -> Record:
    data = {key: each for key, each in value.items() if key not in _META}
    spans = {key: each for key, each in data.items() if _is_regions(each)}
    choices = {
        key: _list(each.get("choices") if isinstance(each, dict) else each)
        for key, each in data.items()
        if key != (source.options.text_column or "text") and key not in spans and _is_choice(each)
    }
    if "text" not in data and source.options.text_column is None and len(choices) > 1:
        raise ValueError(f"the text is one of {', '.join(choices)}; name it with --text-column")
    text_key, text = _text(source, {key: each for key, each in data.items() if key not in spans})
    choices.pop(text_key, None)
    entities = [entity for regions in spans.values() for entity in _entities(regions, text)]
    label = None if spans and source.options.label_column is None else _one_question(source, choices)
    used = {text_key, *spans, *([] if label is None else choices)}
    record = {key: each for key, each in value.items() if key not in used and key != "text"}
    found = {**({"entities": entities} if spans else {}), **({} if label is None else {"label": label})}
    return {**record, "text": text, **found}


def _text(source: Source, data: Mapping[str, Any]) -> tuple[str, str]:
    """Return key and value of the text. Raises ValueError if it is not clear which value is the text."""
    strings = [key for key, each in data.items() if isinstance(each, str)]
    key = source.options.text_column or ("text" if "text" in strings or len(strings) != 1 else strings[0])
    if key not in strings:
        found = ", ".join(strings) or "none"
        raise ValueError(
            f"expected the text under {key!r}; name it with --text-column; values that are strings: {found}"
        )
    return key, data[key]


def _one_question(source: Source, choices: dict[str, list[Any]]) -> list[Any] | None:
    """Return the choices of `--label-column`, or of the only question; None if there is no question."""
    if source.options.label_column is not None:
        return choices.get(source.options.label_column)
    if len(choices) > 1 and "label" not in choices:
        raise ValueError(
            f"has answers to the questions {', '.join(choices)}; name the one to learn with --label-column"
        )
    return choices.get("label", next(iter(choices.values()), None))


def _entities(regions: Any, text: str) -> list[JSONObject]:
    """Return the entities of regions; one with several types is several entities."""
    found = []
    for region in regions:
        own = {key: region.get(key) for key in ("start", "end", "text")}
        if isinstance(own["text"], str) and "\\n" not in text:  # older versions write a line end as \ and n
            own["text"] = own["text"].replace("\\n", "\n")
        found += [{**own, "label": name} for name in _list(_span_types(region))]
    return found


def _span_types(value: Mapping[str, Any]) -> Any:
    return next(
        (value[key] for key in ("labels", "hypertextlabels", "paragraphlabels") if key in value), None
    )


def _is_regions(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and "start" in each and _span_types(each) for each in value
    )


def _is_choice(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "choices" in value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
