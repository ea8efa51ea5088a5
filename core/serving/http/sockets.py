"""Where a service listens: addresses that can be had, and that it may have."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Sequence

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.http.hosts import is_loopback

_FILES = 65536


def listen(host: str, port: int, *, loopback_only: bool) -> list[socket.socket]:
    """Return sockets that are bound to `host` and `port` (0: any that is free), and do not accept yet.

    loopback_only: only to loopback addresses. Raises UsageError for a place that cannot be had, or must not.
    """
    found = _addresses(host, port)
    if loopback_only and not all(is_loopback(address[0].partition("%")[0]) for _, address in found):
        raise UsageError(
            f"host {host}: others can reach it, and there are no tokens; name a file with --token-file, "
            "or serve on 127.0.0.1"
        )
    sockets: list[socket.socket] = []
    try:
        for family, address in found:
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bound(family, (address[0], chosen, *address[2:])))
    except OSError as error:
        for each in sockets:
            each.close()
        raise UsageError(_unbound(host, port, error)) from error
    return sockets


def raise_open_file_limit() -> None:
    """Let this process open as many files as it may, up to 65,536: each connection is one."""
    if os.name == "posix":
        import resource

        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if most == resource.RLIM_INFINITY else min(most, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, wanted), most))


def url_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """Return the address of the service as a URL."""
    port = sockets[0].getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port}: expected a number from 0 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"host {host!r}: no such address ({error}); try 127.0.0.1") from error
    return [(family, address) for family, _, _, _, address in dict.fromkeys(found)]  # type: ignore[misc]


def _bound(family: int, address: tuple[str | int, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix" and sys.platform != "cygwin":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _unbound(host: str, port: int, error: OSError) -> str:
    why = (error.strerror or str(error)).lower()
    remedy = {
        "EADDRINUSE": "choose another with --port, or 0 for any that is free",
        "EACCES": "ports below 1024 are the system's; choose another with --port",
        "EADDRNOTAVAIL": "this machine has no such address; try 127.0.0.1",
    }
    name = errno.errorcode.get(error.errno or 0, "")
    return f"cannot listen on {host}:{port}: {why}" + (f"; {remedy[name]}" if name in remedy else "")
