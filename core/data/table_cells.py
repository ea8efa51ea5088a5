"""Lists in the cells of a table, which are JSON."""

from __future__ import annotations

from onetrunk.adapters.format.strict_json import JSONFault, loads
from onetrunk.core.tasks import JSONObject, Record

_LISTS = ("words", "tokens", "tags", "ner_tags", "entities")


def with_lists(record: Record, label_column: str | None = None) -> Record:
    """Return a row with the lists that a task on tokens reads, instead of their JSON.

    label_column: a column that is read in the same way.
    Raises ValueError for a list that is not JSON.
    """
    changed: JSONObject = {}
    for key in (*_LISTS, label_column):
        cell = record.get(key) if key else None
        if key and isinstance(cell, str) and cell.lstrip().startswith("["):
            try:
                changed[key] = loads(cell)
            except JSONFault as fault:
                raise ValueError(
                    f"the list under {key!r} is not JSON: {cell[:80]}; write the data as JSONL, for example "
                    "with to_json(path, orient='records', lines=True) of pandas"
                ) from fault
    return {**record, **changed}
