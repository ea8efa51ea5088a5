"""The model card: a Markdown text that describes an artifact and shows how to use it, with metadata for the Hub."""

from __future__ import annotations

from onetrunk.adapters.card.curve import training_curve
from onetrunk.adapters.card.metadata import CardFacts, CardMetadata
from onetrunk.adapters.card.page import render_card, user_text
from onetrunk.adapters.card.results import CALIBRATED_ON_DEV
from onetrunk.adapters.card.samples import RECIPES

__all__ = [
    "CALIBRATED_ON_DEV",
    "RECIPES",
    "CardFacts",
    "CardMetadata",
    "render_card",
    "training_curve",
    "user_text",
]
