"""The prediction of an adapter for a text. Importing this module does not import torch: clients use it too."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from onetrunk.core.tasks.records import JSONObject


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction of one adapter for one text.

    adapter: the version of the adapter, such as `ner@3`.
    result: the JSON object that `TaskSpec.decode` returned, such as {"entities": [...]}.
    """

    text: str
    adapter: str
    result: JSONObject

    def to_json(self) -> JSONObject:
        """Return one JSON object with `text`, `adapter` and the keys of `result`."""
        return {"text": self.text, "adapter": self.adapter, **self.result}


def check_strings(texts: Sequence[str], adapters: Sequence[str]) -> None:
    """Raise TypeError unless `texts` and `adapters` are lists of strings."""
    for name, values in (("texts", texts), ("adapters", adapters)):
        if isinstance(values, str) or not isinstance(values, Collection):  # a generator can be read only once
            raise TypeError(f"{name} must be a list of strings")
        if not all(isinstance(each, str) for each in values):
            raise TypeError(f"{name} must be a list of strings")
