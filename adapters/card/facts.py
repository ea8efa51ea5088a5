"""The facts that a model card is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from onetrunk.adapters.format.manifest import Manifest


@dataclass(frozen=True, slots=True)
class CardMetadata:
    """Metadata that the person who publishes the adapter gives.

    license: identifier such as `apache-2.0`; None if it is not given.
    languages: codes such as `en`.
    datasets: ids of data sets on the Hub.
    """

    license: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """The content of a model card. Equal facts give equal bytes.

    name: the adapter's name.
    summary: the task's description, one line.
    repo: `org/name` of the adapter on the Hub; None for an adapter in a store or a folder.
    has_picture: whether the artifact has a picture of the training curve.
    weight_bytes: size of all weights in bytes; None if it is not known.
    notes: text that a user has written into the card, as `user_text` returns it.
    """

    name: str
    manifest: Manifest
    summary: str
    repo: str | None = None
    metadata: CardMetadata = field(default_factory=CardMetadata)
    has_picture: bool = False
    weight_bytes: int | None = None
    notes: str | None = None
