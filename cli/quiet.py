"""Hide messages and progress bars of libraries in commands. As a library, OneTrunk does not change them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone


def quiet_hub() -> None:
    """Hide progress bars and warnings of huggingface_hub; commands show their own progress and errors."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def load_backbone(name: str, revision: str | None = None, **options: Any) -> Backbone:
    """Return `Backbone.load(name, revision, **options)` without the progress bars and warnings of transformers.

    The progress bar of a download is kept.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    from onetrunk.core.backbones.backbone import Backbone

    downloads_shown = not are_progress_bars_disabled()
    logging.disable_progress_bar()  # which hides those of downloads, too
    if downloads_shown:
        enable_progress_bars()
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
    return Backbone.load(name, revision, **options)
