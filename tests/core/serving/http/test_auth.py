"""Tokens: the token file, and the rights of a token on each route."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.serving.http.problems import Refusal
from tests.core.serving.conftest import Running, Serve, ask

ALL, MOBILE, ADMIN, OPS = ("a" * 20, "mobile-token-1234", "admin-token-12345", "ops-token-1234567")
FILE = f"""
[[token]]
name = "all"
token = "{ALL}"
scopes = ["predict", "admin"]

[[token]]
name = "mobile"
sha256 = "{hashlib.sha256(MOBILE.encode()).hexdigest()}"
scopes = ["predict"]
adapters = ["names", "moo?"]

[[token]]
name = "admin"
token = "{ADMIN}"
scopes = ["admin"]

[[token]]
name = "ops"
token = "{OPS}"
scopes = ["admin"]
adapters = ["team-*"]
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "tokens.toml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def guarded(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with the tokens of FILE."""
    with serve(Access.read(written(tmp_path_factory.mktemp("tokens"), FILE))) as service:
        yield service


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


PREDICT = ("POST", "/v1/predict", {"inputs": [ask()]})
STREAM = ("POST", "/v1/predict/stream", b'{"text": "good", "adapters": ["mood"]}\n')
ROUTES: list[tuple[str, str, Any]] = [
    PREDICT,
    STREAM,
    ("GET", "/v1/adapters", None),
    ("GET", "/v1/adapters/mood", None),
    ("PUT", "/v1/adapters/team-x", {"ref": "mood@1"}),
    ("DELETE", "/v1/adapters/team-x", None),
    ("GET", "/v1/status", None),
    ("GET", "/metrics", None),
]
OPEN = ("/healthz", "/readyz", "/docs", "/openapi.json")
ONLY_ADMIN = {"PUT", "DELETE"}


def send(service: Running, route: tuple[str, str, Any], headers: dict[str, str]) -> Any:
    method, path, body = route
    if isinstance(body, bytes):
        kind = {"Content-Type": "application/x-ndjson"}
        return service.client.request(method, path, content=body, headers={**kind, **headers})
    return service.client.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong-token-12345678"),
        {"Authorization": f"Basic {ALL}"},
        {"Authorization": "Bearer"},
        bearer("ü" * 8),
    ],
    ids=["none", "wrong", "other scheme", "empty", "not ASCII"],
)
def test_without_a_known_token_every_route_answers_401(
    guarded: Running, route: tuple[str, str, Any], headers: dict[str, str]
) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = send(guarded, route, encoded)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.json()["type"] == "/problems/unauthorized"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
def test_a_token_with_every_scope_opens_every_route(guarded: Running, route: tuple[str, str, Any]) -> None:
    assert send(guarded, route, bearer(ALL)).status_code in (200, 201, 204)


@pytest.mark.parametrize("path", OPEN)
def test_pages_and_health_checks_need_no_token(guarded: Running, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


@pytest.mark.parametrize("route", [PREDICT, STREAM], ids=["predict", "stream"])
def test_a_token_without_the_scope_predict_gets_403(guarded: Running, route: tuple[str, str, Any]) -> None:
    answer = send(guarded, route, bearer(ADMIN))
    assert (answer.status_code, answer.json()["scope"]) == (403, "predict")


@pytest.mark.parametrize("route", ROUTES[4:6] + ROUTES[7:], ids=lambda route: f"{route[0]} {route[1]}")
def test_a_token_without_the_scope_admin_gets_403(guarded: Running, route: tuple[str, str, Any]) -> None:
    answer = send(guarded, route, bearer(MOBILE))
    scope = "metrics" if route[1] == "/metrics" else "admin"
    assert (answer.status_code, answer.json()["scope"]) == (403, scope)


@pytest.mark.parametrize("name", ["mood@1", "nobody"])
def test_a_token_for_other_adapters_gets_403_whether_the_adapter_exists_or_not(
    guarded: Running, name: str
) -> None:
    predicted = guarded.predict(ask("good", name), headers=bearer(MOBILE))
    shown = guarded.client.get(f"/v1/adapters/{name}", headers=bearer(MOBILE))
    assert (predicted.status_code, shown.status_code) == (403, 403)
    details = {answer.json()["detail"].replace(name, "X") for answer in (predicted, shown)}
    assert details == {"this token may not use the adapter 'X'"}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_admin_of_some_names_cannot_touch_others(guarded: Running, method: str) -> None:
    body = {"ref": "mood@1"} if method == "PUT" else None
    answer = send(guarded, (method, "/v1/adapters/mood", body), bearer(OPS))
    assert answer.status_code == 403
    assert guarded.engine.adapter("mood").version == "mood@2"


def test_an_input_for_a_forbidden_adapter_fails_alone(guarded: Running) -> None:
    answer = guarded.predict(ask("good", "mood"), ask("good", "mood@1"), headers=bearer(MOBILE))
    good, bad = answer.json()["results"]
    assert answer.status_code == 200
    assert (good["answers"][0]["version"], bad["error"]["status"]) == ("mood@2", 403)


def test_a_stream_line_for_a_forbidden_adapter_fails_alone(guarded: Running) -> None:
    body = b'{"text": "good", "adapters": ["mood@1"]}\n{"text": "good", "adapters": ["mood"]}\n'
    answer = send(guarded, ("POST", "/v1/predict/stream", body), bearer(MOBILE))
    bad, good = (line for line in answer.text.splitlines())
    assert "/problems/forbidden" in bad
    assert '"version":"mood@2"' in good


def test_lists_have_only_the_adapters_of_the_token(guarded: Running) -> None:
    listed = guarded.client.get("/v1/adapters", headers=bearer(MOBILE)).json()["adapters"]
    assert [each["name"] for each in listed] == ["mood", "names"]
    assert guarded.client.get("/v1/status", headers=bearer(MOBILE)).json()["adapters"] == 2


def test_the_problem_of_an_unknown_adapter_lists_only_names_of_the_token(guarded: Running) -> None:
    answer = guarded.predict(ask("good", "mooX"), headers=bearer(MOBILE)).json()
    assert (answer["status"], answer["known"]) == (404, ["mood", "names"])
    assert "mood@1" not in answer["detail"]


def test_the_log_has_the_name_of_the_token_and_never_the_token(guarded: Running) -> None:
    guarded.predict(ask(), headers=bearer(MOBILE))
    guarded.predict(ask(), headers=bearer("wrong-token-12345678"))
    assert "mobile" in {event.get("token") for event in guarded.events("request")}
    text = str(guarded.events())
    assert not any(token in text for token in (ALL, MOBILE, ADMIN, "wrong-token-12345678"))


def test_with_tokens_any_host_name_is_answered(guarded: Running) -> None:
    headers = {**bearer(ALL), "Host": "models.example.com"}
    assert guarded.client.get("/v1/status", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no entry; add a table \\[\\[token\\]\\]"),
        ("token = 3", "token must be a list, not a number"),
        ("x = [", "is not TOML"),
        ("[[tokens]]", "unknown key 'tokens'"),
        ('[[token]]\nname = "a"\nscopes = ["predict"]', "token 'a': must have either sha256 or token"),
        ('[[token]]\nname = "a"\ntoken = "short"\nscopes = ["predict"]', "at least 16 characters"),
        ('[[token]]\nname = "a"\ntoken = "has a blank in it"\nscopes = ["predict"]', "letters, digits"),
        ('[[token]]\nname = "a"\nsha256 = "12"\nscopes = ["predict"]', "64 hex digits"),
        (f'[[token]]\nname = "a"\ntoken = "{ALL}"', "token 'a': scopes is missing"),
        (
            f'[[token]]\nname = "a"\ntoken = "{ALL}"\nscopes = ["root"]',
            "scopes.0 must be 'predict', 'metrics' or 'admin'",
        ),
        (
            f'[[token]]\nname = "a"\ntoken = "{ALL}"\nscopes = "predict"',
            "scopes must be a list, not this string",
        ),
        (f'[[token]]\ntoken = "{ALL}"\nscopes = ["predict"]', "token 1: name is missing"),
        (f'[[token]]\nname = "a"\ntoken = "{ALL}"\nscopes = ["predict"]\nscope = 1', "unknown key 'scope'"),
        (f'[[token]]\nname = "a"\ntoken = "{ALL}"\nscopes = ["predict"]\nadapters = "x"', "adapters must be"),
        (
            f'[[token]]\nname = "a"\ntoken = "{ALL}"\nscopes = ["predict"]\n'
            f'[[token]]\nname = "b"\ntoken = "{ALL}"\nscopes = ["admin"]',
            "token 'b' appears twice",
        ),
    ],
)
def test_the_error_of_an_invalid_token_file_names_file_and_entry(
    tmp_path: Path, text: str, fault: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=fault) as error:
        Access.read(file)
    assert str(file) in str(error.value)
    assert ALL not in str(error.value)


def test_a_missing_token_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml: cannot be read: No such file"):
        Access.read(tmp_path / "nowhere.toml")


def test_a_token_file_that_other_users_can_read_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path, FILE)
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING, "onetrunk"):
        Access.read(file)
    assert "other users can read the token file" in caplog.text


def test_an_empty_list_of_adapters_covers_none(tmp_path: Path) -> None:
    text = f'[[token]]\nname = "a"\ntoken = "{ALL}"\nscopes = ["predict"]\nadapters = []'
    grant = Access.read(written(tmp_path, text)).grant(f"Bearer {ALL}", "predict")
    assert not grant.covers("mood")


def test_the_scheme_bearer_may_be_in_upper_or_lower_case(tmp_path: Path) -> None:
    assert Access.read(written(tmp_path, FILE)).grant(f"bEARER  {ALL} ").name == "all"


def test_the_digest_of_a_token_is_not_accepted_as_the_token(tmp_path: Path) -> None:
    access = Access.read(written(tmp_path, FILE))
    with pytest.raises(Refusal, match="does not have this token"):
        access.grant("Bearer " + hashlib.sha256(MOBILE.encode()).hexdigest())
