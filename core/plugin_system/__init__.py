"""Plugins: discovery, registration, checks and isolation."""
