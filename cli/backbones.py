"""Which backbone a command has to load for the adapters it was given. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping

from onetrunk.adapters.format.manifest import Manifest
from onetrunk.cli.number_format import counted
from onetrunk.core.backbones.repository import OFFLINE_NAME, offline_folder
from onetrunk.core.errors import UsageError


def needed_backbone(manifests: Mapping[str, Manifest], chosen: str | None) -> tuple[str, str | None]:
    """Return name and revision of the backbone to load: what the user has chosen, else the adapters' own.

    manifests: by reference; for none it is the default backbone. Raises UsageError when they need different ones,
    and for one that was a local folder, whose path an adapter does not keep: a folder of that name in the
    working directory may be another one.
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
                "one run has one backbone, so use a run for each"
            )
    if own.name == OFFLINE_NAME and offline_folder() is not None:
        return own.name, None  # the same weights whatever the revision; loading compares them
    if own.revision is None and own.name != OFFLINE_NAME:
        raise UsageError(
            f"{first} was trained on the local folder {own.name!r}, and keeps no path; "
            "give it with --backbone PATH"
        )
    return own.name, own.revision


def _described(manifest: Manifest) -> str:
    own = manifest.backbone
    return (
        f"{own.name} ({counted(own.layers, 'layer')} of {own.hidden_size}, weights {own.fingerprint[:12]}…)"
    )
