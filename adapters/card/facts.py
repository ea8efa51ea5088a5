"""What a model card is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from onetrunk.adapters.format.manifest import Manifest


@dataclass(frozen=True, slots=True)
class CardMetadata:
    """Metadata that only the person who publishes knows, in the Hub's terms.

    license: identifier such as `apache-2.0`.
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
    repo: `org/name` on the Hub where the adapter is published; None for an adapter in a store or a folder.
    has_picture: whether the file `artifact.PICTURE` lies beside the card.
    weight_bytes: size of all weights; None if it is not known.
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
