"""The store's names for adapters that were used by their location, without `adapters pull`."""

from __future__ import annotations

import re
from hashlib import sha256

from onetrunk.adapters.store.references import is_name

_UNUSUAL = re.compile(r"[^a-z0-9._-]+")
_LONGEST_STEM = 54
HUB = "https://huggingface.co"
"""The endpoint of the public Hub."""
_FOLDER = "file://"


def cache_name(base: str, endpoint: str | None) -> str:
    """Return the store's name for an adapter that was used by its location, without `adapters pull`.

    base: `Location.base`.
    endpoint: URL of the Hub; None for a folder.

    A repo of the public Hub gets the name `org--repo`; repos never have "--" in their names. Any other location,
    and a repo whose name is not valid in the store, gets a name with a hash of the location, so that names never
    collide.
    """
    plain = base.replace("/", "--")
    if endpoint == HUB and is_name(plain):
        return plain
    stem = f"file--{base.rpartition('/')[2]}" if base.startswith(_FOLDER) else plain
    stem = _UNUSUAL.sub("-", stem.lower())[:_LONGEST_STEM]
    digest = sha256(f"{endpoint or ''} {base}".encode()).hexdigest()[:8]
    name = f"{stem}--{digest}"
    return name if is_name(name) else f"location--{digest}"
