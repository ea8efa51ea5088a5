"""Bounds that tasks and artifacts share. Imports nothing, so that the contract of a task stays quick to import."""

MAX_PROBE = 64
"""The most texts that a probe may have: each is computed whenever the adapter is loaded."""
