"""Loaded adapters, their logits, and predictions."""
