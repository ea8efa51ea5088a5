"""Adapters between stores: publishing to the Hub or a shared folder, and pulling from there."""
