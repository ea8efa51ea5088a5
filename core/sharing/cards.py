"""The card and the picture that are published beside an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onetrunk.adapters.card import CardFacts, render_card, training_curve
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.artifact import HISTORY, WEIGHTS, Artifact
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.store import StoredVersion

_LINEAR = {"classifier.weight", "classifier.bias"}


@dataclass(frozen=True, slots=True)
class CardMetadata:
    """What only the one who publishes knows, as the Hub names it."""

    license: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


def hub_card(
    stored: StoredVersion,
    artifact: Artifact,
    location: Location,
    summary: str,
    choices: CardMetadata,
    notes: str | None,
    picture: bool,
) -> bytes:
    """Return the card of a version that is published at `location`.

    summary: the task's line; notes: what a person wrote into the card that is there; picture: whether there is one.
    """
    facts = CardFacts(
        name=stored.name,
        manifest=artifact.manifest,
        summary=summary,
        recipe=recipe_of(artifact),
        repo=location.place if location.kind == "hub" else None,
        license=choices.license,
        languages=choices.languages,
        datasets=choices.datasets,
        picture=picture,
        weight_bytes=sum(record.bytes for name, record in artifact.manifest.files.items() if name in WEIGHTS),
        notes=notes,
    )
    return render_card(facts).encode("utf-8")


def recipe_of(artifact: Artifact) -> str | None:
    """Return which lines of transformers and PEFT load an adapter; None for a head that only its plugin knows."""
    manifest = artifact.manifest
    if manifest.head == "peft":
        return "token" if manifest.level == "token" else "cls"
    if artifact.head is None or artifact.head.keys() != _LINEAR:
        return None
    return (
        "words" if manifest.level == "token" else {"mean": "mean", "cls": "first"}.get(str(manifest.pooling))
    )


def picture_of(files: Mapping[str, bytes]) -> bytes | None:
    """Return the training curve as a PNG; None without a history, or without matplotlib (extra `[card]`)."""
    lines = files.get(HISTORY, b"").splitlines()
    return training_curve([strict_json.parse(line) for line in lines]) if lines else None
