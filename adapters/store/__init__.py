"""The local store: names, versions, aliases, and changes that happen whole or not at all."""
