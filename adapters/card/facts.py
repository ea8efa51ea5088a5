"""What a model card is made of."""

from __future__ import annotations

from dataclasses import dataclass

from onetrunk.adapters.format.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """All that a card tells; equal facts give equal bytes.

    name: of the adapter. summary: the task's line. recipe: a key of `RECIPES`, None for a head of a plugin's own.
    repo: where the adapter is published, `org/name` on the Hub; None for one in the store alone. license,
    languages, datasets: as the Hub names them, where they are known. picture: whether `artifact.PICTURE` lies
    beside the card. weight_bytes: of all weights. notes: what a person has written; `user_text` gives it back.
    """

    name: str
    manifest: Manifest
    summary: str
    recipe: str | None = None
    repo: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    picture: bool = False
    weight_bytes: int | None = None
    notes: str | None = None
