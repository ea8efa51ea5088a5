"""Listening sockets, and loopback addresses: without tokens, the service is reachable from this machine only."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

from onetrunk.core.errors import UsageError

_OPEN_FILES = 65536
_REMEDIES = {
    "EADDRINUSE": "; choose another port with --port, or 0 for any free port",
    "EACCES": "; ports below 1024 need special rights; choose another port with --port",
    "EADDRNOTAVAIL": "; this machine does not have this address; try 127.0.0.1",
}


def listen(host: str, port: int, *, loopback_only: bool) -> list[socket.socket]:
    """Return one bound socket for each address of `host`; the sockets do not accept connections yet.

    port: from 0 to 65535; 0 for any free port. All sockets get the same port.
    loopback_only: refuse addresses that other machines can reach.
    Raises UsageError if an address is refused, does not exist or is in use.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port}: expected a number from 0 to 65535")
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"host {host!r}: no such address ({error}); try 127.0.0.1") from error
    found: dict[Any, socket.AddressFamily] = {address: family for family, _, _, _, address in infos}
    if loopback_only and not all(is_loopback(address[0].partition("%")[0]) for address in found):
        raise UsageError(
            f"host {host}: other machines can reach this address, which needs tokens; name a file with "
            "--token-file, or listen on 127.0.0.1"
        )
    sockets: list[socket.socket] = []
    with ExitStack() as opened:
        try:
            for address, family in found.items():
                chosen = sockets[0].getsockname()[1] if sockets else port
                listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                if os.name == "posix" and sys.platform != "cygwin":
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address[0], chosen, *address[2:]))
                listener.setblocking(False)
                sockets.append(listener)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            remedy = _REMEDIES.get(errno.errorcode.get(error.errno or 0, ""), "")
            raise UsageError(f"cannot listen on {host}:{port}: {reason}{remedy}") from error
        opened.pop_all()
    return sockets


def raise_open_file_limit() -> None:
    """Raise this process's limit on open files, which limits connections, to 65,536 or the system's maximum."""
    if os.name == "posix":
        import resource

        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, wanted), most))


def url_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """Return the base URL of a service that listens on `sockets`."""
    port = sockets[0].getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def host_of(header: str) -> str:
    """Return the host name or address in the value of a `Host` header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback one, which other machines cannot reach."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
