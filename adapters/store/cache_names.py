"""Names in the store of adapters that are used by their location, without `adapters pull`."""

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
    """Return the name in the store of an adapter that is used by its location, without `adapters pull`.

    base: as in `Location`. endpoint: of its Hub, None for a folder. For a repo of the public Hub it is `org--repo`;
    any other place, and a repo whose name is not a valid name in the store, also has a hash of the whole place, so
    that two places never have the same name. No repo of the Hub has "--" in its name.
    """
    plain = base.replace("/", "--")
    if endpoint == HUB and is_name(plain):
        return plain
    stem = f"file--{base.rpartition('/')[2]}" if base.startswith(_FOLDER) else plain
    stem = _UNUSUAL.sub("-", stem.lower())[:_LONGEST_STEM]
    digest = sha256(f"{endpoint or ''} {base}".encode()).hexdigest()[:8]
    name = f"{stem}--{digest}"
    return name if is_name(name) else f"location--{digest}"
