"""Figures of whole entities by seqeval: what tasks that tag words evaluate with."""

from __future__ import annotations

from collections import Counter

from onetrunk.core.tasks.spec import JSONObject


def entity_metrics(gold: list[list[str]], predicted: list[list[str]]) -> JSONObject:
    """Return precision, recall and f1 of whole entities, strict IOB2 of seqeval, micro average, and per_type.

    Both are valid IOB2 tags, a list a text. A figure is None where it divides by nothing.
    """
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    types = sorted({tag[2:] for tags in [*gold, *predicted] for tag in tags if tag != "O"})
    if not types:  # seqeval has no answer to nothing
        return {"precision": None, "recall": None, "f1": None, "per_type": {}}
    # A type may be called what seqeval calls a row of averages; a number is neither.
    codes = {name: str(code) for code, name in enumerate(types)}
    coded = [[_renamed(tags, codes) for tags in rows] for rows in (gold, predicted)]
    report = classification_report(*coded, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    found = Counter(tag[2:] for tags in predicted for tag in tags if tag.startswith("B-"))
    table = {name: _figures(report[codes[name]], found[name]) for name in types}
    micro = _figures(report["micro avg"], found.total())
    del micro["support"]
    return {**micro, "per_type": table}


def _renamed(tags: list[str], names: dict[str, str]) -> list[str]:
    return [tag if tag == "O" else tag[:2] + names[tag[2:]] for tag in tags]


def _figures(row: JSONObject, predicted: int) -> JSONObject:
    """Return the figures of a row of seqeval's report, which has 0 also where it divides by nothing."""
    support = int(row["support"])
    return {
        "precision": float(row["precision"]) if predicted else None,
        "recall": float(row["recall"]) if support else None,
        "f1": float(row["f1-score"]),
        "support": support,
    }
