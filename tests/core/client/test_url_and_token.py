"""Arguments of a client: the URL of the service, the token and the timeout."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.client import AsyncClient, Client, ServiceError
from onetrunk.core.errors import UsageError
from tests.core.client.answers import ONCE, TOKEN, Ask
from tests.peer import Peer, problem, said


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://host", "http://", "http://host/?a=b", "http://host/#a", "/v1"]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_invalid_url_is_refused(kind: Any, url: str) -> None:
    with pytest.raises(UsageError, match="expected http://HOST:PORT"):
        kind(url)


def test_a_password_in_a_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError, match="contains a user name or password; give a token instead") as caught:
        Client("https://ada:secret@host")
    assert "secret" not in str(caught.value)


def test_the_url_of_a_service_may_have_a_path(ask: Ask, peer: Peer) -> None:
    peer.says(said({}))
    ask("status", url=f"{peer.url}/tasks/")
    assert peer.asked[0].path == "/tasks/v1/status"


def test_the_token_is_sent_with_every_request(ask: Ask, peer: Peer, tmp_path: Path) -> None:
    peer.says(said({}))
    ask("status", token=TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    ask("status", token=tmp_path / "token")
    ask("status")
    sent = [asked.headers["Authorization"] for asked in peer.asked]
    assert sent == [f"Bearer {TOKEN}", f"Bearer {TOKEN}", None]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_repr_of_a_client_does_not_show_its_token(kind: Any, peer: Peer) -> None:
    client = kind(peer.url, TOKEN)
    assert repr(client) == f"{kind.__name__}('{peer.url}')"
    assert TOKEN not in repr(client) + str(client) + repr(client._http.headers)


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_token_in_a_response_is_masked(
    ask: Ask, peer: Peer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    peer.says(problem(status, "unauthorized", f"no such token {TOKEN}", token=TOKEN))
    with pytest.raises(ServiceError, match="no such token …") as caught:
        ask("status", token=TOKEN, retries=ONCE)
    assert TOKEN not in repr(caught.value) + repr(caught.value.problem) + caplog.text


@pytest.mark.parametrize("token", ["", " ", "two words", "ünicode", "a\nb", "\x1b[2J"])
def test_an_invalid_token_is_refused_without_repeating_it(token: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^the token is not a valid token; expected"):
        Client("http://host", token)
    (tmp_path / "token").write_text(token, encoding="utf-8")
    with pytest.raises(
        UsageError, match=f"^the file {tmp_path / 'token'} is not a valid token; expected"
    ) as caught:
        Client("http://host", tmp_path / "token")
    assert not token.strip() or token not in str(caught.value)


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none with the token cannot be read \(No such file"):
        Client("http://host", tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"binary with the token cannot be read \(it is not text\)"):
        Client("http://host", tmp_path / "binary")


def test_a_service_on_this_machine_is_reached_without_the_proxy(
    ask: Ask, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    peer.says(said({"status": "ready"}))
    assert ask("status") == {"status": "ready"}


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_an_invalid_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(UsageError, match="expected more than 0 seconds"):
        Client("http://host", timeout=timeout)
