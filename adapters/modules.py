"""The names of the modules that LoRA can adapt. They stand apart so that to list them loads no torch."""

from __future__ import annotations

MODULES = ("query", "key", "value", "attention_output", "intermediate", "output")
"""The linear modules of an encoder layer that can be adapted, in the order of the forward pass."""
