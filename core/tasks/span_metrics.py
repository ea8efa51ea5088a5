"""Metrics of whole entities by seqeval, for tasks that tag words."""

from __future__ import annotations

from collections import Counter

from onetrunk.core.tasks.spec import JSONObject


def entity_metrics(gold: list[list[str]], predicted: list[list[str]]) -> JSONObject:
    """Return {precision, recall, f1, per_type} of whole entities: seqeval's strict mode with IOB2, micro average.

    A metric is None if its denominator is 0.

    gold, predicted: one list of valid IOB2 tags per text.
    """
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    types = sorted({tag[2:] for tags in [*gold, *predicted] for tag in tags if tag != "O"})
    if not types:  # seqeval raises for data without entities
        return {"precision": None, "recall": None, "f1": None, "per_type": {}}
    # A type can have the name of a row of averages in seqeval's report; numbers avoid the clash.
    codes = {name: str(code) for code, name in enumerate(types)}
    coded = [[_renamed(tags, codes) for tags in rows] for rows in (gold, predicted)]
    report = classification_report(*coded, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    found = Counter(tag[2:] for tags in predicted for tag in tags if tag.startswith("B-"))
    table = {name: _metrics(report[codes[name]], found[name]) for name in types}
    micro = _metrics(report["micro avg"], found.total())
    del micro["support"]
    return {**micro, "per_type": table}


def _renamed(tags: list[str], names: dict[str, str]) -> list[str]:
    return [tag if tag == "O" else tag[:2] + names[tag[2:]] for tag in tags]


def _metrics(row: JSONObject, predicted: int) -> JSONObject:
    """Return the metrics of one row of seqeval's report, with None in place of its 0 for a zero denominator."""
    support = int(row["support"])
    return {
        "precision": float(row["precision"]) if predicted else None,
        "recall": float(row["recall"]) if support else None,
        "f1": float(row["f1-score"]),
        "support": support,
    }
