"""Limits that tasks and artifacts share. Imports nothing: plugins import this module at start-up."""

MAX_PROBE = 64
"""The most texts of a probe. All of them are computed whenever the adapter is loaded."""
