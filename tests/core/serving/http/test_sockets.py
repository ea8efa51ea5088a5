"""Listening sockets and loopback addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.http.sockets import host_of, is_loopback, listen, url_of


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as trial:
        try:
            trial.bind(("::1", 0))
        except OSError:
            return False
    return True


def test_all_addresses_of_a_name_get_the_same_port(stack: ExitStack) -> None:
    sockets = [stack.enter_context(each) for each in listen("localhost", 0, loopback_only=True)]
    ports = {each.getsockname()[1] for each in sockets}
    assert len(ports) == 1
    assert url_of("localhost", sockets) == f"http://localhost:{ports.pop()}"


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_url_has_an_ipv6_address_in_brackets(stack: ExitStack) -> None:
    sockets = [stack.enter_context(each) for each in listen("::1", 0, loopback_only=True)]
    assert url_of("::1", sockets).startswith("http://[::1]:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_tokens_only_loopback_addresses_are_bound(host: str) -> None:
    with pytest.raises(UsageError, match=r"other machines can reach this address, .* --token-file"):
        listen(host, 0, loopback_only=True)


def test_with_tokens_any_address_is_bound(stack: ExitStack) -> None:
    (bound,) = [stack.enter_context(each) for each in listen("0.0.0.0", 0, loopback_only=False)]
    assert bound.getsockname()[0] == "0.0.0.0"


def test_no_connection_is_accepted_before_the_service_starts(stack: ExitStack) -> None:
    (bound,) = [stack.enter_context(each) for each in listen("127.0.0.1", 0, loopback_only=True)]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname(), timeout=5)


@pytest.mark.parametrize(
    ("host", "port", "fault"),
    [
        ("127.0.0.1", 70000, "port 70000: expected a number from 0 to 65535"),
        ("192.0.2.1", 0, "cannot listen on 192.0.2.1:0: .*; this machine does not have this address"),
        ("no such host", 0, "host 'no such host': no such address"),
        ("x" * 300, 0, "no such address"),
        ("a\x00b", 0, "no such address"),
    ],
)
def test_an_address_that_cannot_be_bound_is_an_error(host: str, port: int, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        listen(host, port, loopback_only=False)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("localhost:80", "localhost"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("", ""),
    ],
)
def test_the_host_of_a_header_has_no_port(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize("host", ["localhost", "LocalHost.", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_names_are_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "local", "127.0.0.1.example", "0.0.0.0", "::", "128.0.0.1", "::ffff:8.8.8.8"]
)
def test_other_names_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)
