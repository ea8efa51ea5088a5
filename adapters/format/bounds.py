"""Limits that tasks and artifacts share. Imports nothing: plugins import this module at start-up."""

MAX_PROBE = 64
"""The most texts of a probe. All of them are computed whenever the adapter is loaded."""
MAX_PROBE_CHARACTERS = 10_000
"""The most characters of a text of a probe."""
MAX_LABELS = 2**16
"""The most labels of an adapter. An answer can have a score for each of them."""
MAX_LABEL_CHARACTERS = 1000
"""The most characters of a label. An answer repeats it."""
