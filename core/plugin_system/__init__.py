"""Plugins: how they are found, registered, checked and kept apart."""
