"""Choose the backbone that a set of adapters needs. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping

from onetrunk.adapters.format.manifest import Manifest
from onetrunk.cli.number_format import counted
from onetrunk.core.backbones.repository import OFFLINE_NAME, offline_folder
from onetrunk.core.errors import UsageError


def choose_backbone(manifests: Mapping[str, Manifest], chosen: str | None) -> tuple[str, str | None]:
    """Return name and revision of the backbone to load: the user's choice, else that of the adapters.

    manifests: by reference; without any, the default backbone is returned. Raises UsageError if the adapters need
    different backbones, or one that was a local folder: an adapter does not store its path, and a folder of that
    name in the working directory could be another one.
    """
    if chosen is not None:
        return chosen, None
    if not manifests:
        return OFFLINE_NAME, None
    (first, manifest), *others = manifests.items()
    own = manifest.backbone
    for ref, other in others:
        if (other.backbone.fingerprint, other.backbone.tokenizer) != (own.fingerprint, own.tokenizer):
            raise UsageError(
                f"{first} needs the backbone {_described(manifest)}, {ref} needs {_described(other)}; "
                "one command can use only one backbone; run the command once for each"
            )
    if own.name == OFFLINE_NAME and offline_folder() is not None:
        return own.name, None  # same weights in every revision; the loader compares fingerprints
    if own.revision is None and own.name != OFFLINE_NAME:
        raise UsageError(
            f"{first} was trained on the local folder {own.name!r}, whose path is not stored; "
            "give it with --backbone PATH"
        )
    return own.name, own.revision


def _described(manifest: Manifest) -> str:
    own = manifest.backbone
    return (
        f"{own.name} ({counted(own.layers, 'layer')} of {own.hidden_size}, weights {own.fingerprint[:12]}…)"
    )
