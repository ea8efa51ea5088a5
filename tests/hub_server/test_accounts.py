"""Tokens, roles, and private repos."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.hub_server import HubServer
from tests.hub_server.sample_repo import REPO, Call, adding, status


@pytest.mark.parametrize(("role", "shown"), [("write", "write"), ("read", "read"), ("none", "fineGrained")])
def test_a_token_has_a_name_and_a_role(
    hub: HubServer, api: Callable[..., Call], role: Any, shown: str
) -> None:
    who = api(hub.add_user("ada", role, orgs=["club"]))("whoami")
    assert (who["name"], who["auth"]["accessToken"]["role"]) == ("ada", shown)
    assert [org["name"] for org in who["orgs"]] == ["club"]


def test_a_new_repo_has_one_commit_and_cannot_be_created_twice(
    hub: HubServer, api: Callable[..., Call]
) -> None:
    ada = api(hub.add_user("ada"))
    url = ada("create_repo", REPO, private=True)
    assert url == f"{hub.url}/{REPO}" == ada("create_repo", REPO, exist_ok=True)
    assert hub.repo(REPO).private, "exist_ok changes nothing"
    assert (list(hub.repo(REPO).files()), len(hub.repo(REPO).commits())) == ([".gitattributes"], 1)
    with pytest.raises(HfHubHTTPError, match="already created"):
        ada("create_repo", REPO)
    ada("delete_repo", REPO)
    assert not hub.repos


@pytest.mark.parametrize("role", ["read", "none"])
def test_only_a_write_token_of_the_namespace_writes(
    hub: HubServer, api: Callable[..., Call], ada: Call, role: Any
) -> None:
    for token in (hub.add_user("ada", role), hub.add_user("bob", role), hub.add_user("bob")):
        with pytest.raises(HfHubHTTPError, match="403"):
            api(token)("create_commit", REPO, adding(a_txt=b"a"), commit_message="mine")
        with pytest.raises(HfHubHTTPError, match="403"):
            api(token)("create_repo", "ada/more")
    assert len(hub.repo(REPO).commits()) == 2


@pytest.mark.parametrize("who", ["nobody", "stranger", "liar", "powerless"])
def test_a_private_repo_looks_like_a_missing_one(
    hub: HubServer, api: Callable[..., Call], ada: Call, who: str
) -> None:
    ada("update_repo_settings", REPO, private=True)
    tokens: dict[str, str | bool] = {
        "nobody": False,
        "stranger": hub.add_user("bob"),
        "liar": "hf_wrong",
        "powerless": hub.add_user("ada", "none"),
    }
    token = tokens[who]
    heads = {"Authorization": f"Bearer {token}"} if token else {}
    answers = []
    for name in (REPO, "ada/xxx"):
        paths = [f"/api/models/{name}{part}" for part in ("", "/tree/main", "/refs", "/commits/main")]
        answers.append([status(hub, path, **heads) for path in (*paths, f"/{name}/resolve/main/task.json")])
        with pytest.raises(HfHubHTTPError if who == "liar" else RepositoryNotFoundError):
            api(token)("model_info", name)
    assert answers[0] == answers[1]
    assert {code for code, _ in answers[0]} == {404 if who in ("stranger", "powerless") else 401}
    assert (not api()("list_models"), ada("model_info", REPO).private) == (True, True)


@pytest.mark.parametrize("known", [True, False])
def test_a_child_process_reaches_only_this_hub(
    hub: HubServer, ada: Call, tmp_path: Path, known: bool
) -> None:
    hub.repo(REPO).private = True
    code = f"import huggingface_hub as h; print(h.model_info({REPO!r}).sha)"
    token = hub.add_user("ada") if known else None
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=hub.environment(token, cache=tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    if known:
        assert ran.stdout.strip() == hub.repo(REPO).head()
    else:
        assert "RepositoryNotFoundError" in ran.stderr
    assert [(str(r), r.token) for r in hub.requests] == [(f"GET /api/models/{REPO}", known)]


def test_the_log_never_has_a_token(hub: HubServer, api: Callable[..., Call]) -> None:
    token = hub.add_user("ada")
    ada = api(token)
    ada("create_repo", REPO)
    ada("create_commit", REPO, adding(a_bin=b"\0"), commit_message="Push")
    assert any(request.token for request in hub.requests)
    assert token not in repr(hub.requests)
