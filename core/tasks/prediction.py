"""What an adapter says of a text. Free of torch, so that a client of a service need not load it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from onetrunk.core.tasks.spec import JSONObject


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one adapter says of one text; `result` is the task's own record (entities, or label and scores)."""

    text: str
    adapter: str
    result: JSONObject

    def to_json(self) -> JSONObject:
        """Return the record as one flat object."""
        return {"text": self.text, "adapter": self.adapter, **self.result}


def check_strings(texts: Sequence[str], adapters: Sequence[str]) -> None:
    """Raise TypeError for what is no list of strings."""
    for name, given in (("texts", texts), ("adapters", adapters)):
        if isinstance(given, str) or not isinstance(given, Collection):  # a generator could be read once
            raise TypeError(f"{name} must be a list of strings")
        if not all(isinstance(each, str) for each in given):
            raise TypeError(f"{name} must be a list of strings")
