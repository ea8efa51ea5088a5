"""Names and addresses that mean this machine."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


def host_of(header: str) -> str:
    """Return the name or address of a header `Host`, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Tell whether a name or address means this machine, and nothing that others can reach."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
