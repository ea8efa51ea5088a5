"""Choose and load the backbone that adapters need. Importing this module does not import torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onetrunk.adapters.format.manifest import Manifest
from onetrunk.cli.number_format import counted
from onetrunk.core.backbones.repository import OFFLINE_NAME, offline_folder
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone


def choose_backbone(manifests: Mapping[str, Manifest], chosen: str | None) -> tuple[str, str | None]:
    """Return name and revision of the backbone to load: the choice of the user, else what the adapters need.

    manifests: of the adapters, by reference; if empty, the default backbone is returned.
    chosen: Hub id or folder; None if the user has not chosen one.
    Raises UsageError if the adapters need different backbones, or a backbone that was a local folder. An adapter
    does not store the path of such a folder, and a folder of the same name could have another backbone.
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
        return own.name, None  # the weights are the same in every revision; the loader compares fingerprints
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


def load_backbone(
    name: str, revision: str | None = None, *, device: str = "auto", dtype: str = "auto"
) -> Backbone:
    """Return `Backbone.load(...)` without the progress bars and warnings of transformers.

    The progress bar of a download is kept.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    from onetrunk.core.backbones.backbone import Backbone

    downloads_shown = not are_progress_bars_disabled()
    logging.disable_progress_bar()  # this also hides the progress bars of downloads
    if downloads_shown:
        enable_progress_bars()
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
    return Backbone.load(name, revision, device=device, dtype=dtype)


def backbone_for(
    manifests: Mapping[str, Manifest], chosen: str | None, device: str = "cpu", dtype: str = "fp32"
) -> Backbone:
    """Load the backbone of `choose_backbone`; by default as for exports and checks: on the CPU, in fp32."""
    name, revision = choose_backbone(manifests, chosen)
    return load_backbone(name, revision, device=device, dtype=dtype)
