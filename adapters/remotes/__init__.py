"""Remotes, which adapters are published to and pulled from: the Hugging Face Hub and shared folders."""
