"""The frozen forward pass over packed tokens, with adapters as data."""
