"""Injected faults, and requests that the tests' Hub does not support."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from huggingface_hub.errors import HfHubHTTPError

from tests.hub_server import HubServer
from tests.hub_server.sample_repo import FILES, REPO, WEIGHTS, Call, adding, status


def test_a_500_is_answered_once(hub: HubServer, ada: Call) -> None:
    hub.faults.at(2, "500", f"GET /api/models/{REPO}$")
    ada("model_info", REPO)
    with pytest.raises(HfHubHTTPError, match="500"):
        ada("model_info", REPO)
    ada("model_info", REPO)
    assert ([r.status for r in hub.requests], hub.faults.left) == ([200, 500, 200], 0)


def test_a_429_is_retried_by_the_client(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "429", "GET .*/tree/", seconds=0)
    assert len(ada("list_repo_tree", REPO)) == 4
    assert [(r.status, r.fault) for r in hub.requests][:2] == [(429, "429"), (200, None)]


def test_a_dropped_request_is_not_carried_out(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "drop", "POST .*/commit/")
    with pytest.raises(Exception, match="reset by peer"):
        ada("create_commit", REPO, adding(b=b"b"), commit_message="Lost")
    assert "b" not in hub.repo(REPO).files()


def test_a_reset_loses_the_answer_not_the_commit(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "reset", "POST .*/commit/")
    with pytest.raises(Exception, match="reset by peer"):
        ada("create_commit", REPO, adding(b=b"b"), commit_message="Done")
    assert hub.repo(REPO).files()["b"] == b"b"


def test_a_truncated_download_is_retried(hub: HubServer, ada: Call, tmp_path: Path) -> None:
    hub.faults.at(1, "truncate", "GET /storage/")
    path = ada("hf_hub_download", REPO, "adapter.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS
    parts = [(r.range, r.fault) for r in hub.requests if r.path.startswith("/storage/")]
    assert parts == [(None, "truncate"), (None, None)], "the client keeps whole chunks only"


def test_a_truncated_download_resumes_after_the_last_whole_chunk(
    hub: HubServer, ada: Call, tmp_path: Path
) -> None:
    hub.repo(REPO).commit({"adapter.safetensors": bytes(DOWNLOAD_CHUNK_SIZE * 5 // 2)})
    hub.faults.at(1, "truncate", "GET /storage/")
    path = ada("hf_hub_download", REPO, "adapter.safetensors", cache_dir=tmp_path)
    assert Path(path).stat().st_size == DOWNLOAD_CHUNK_SIZE * 5 // 2
    parts = [r.range for r in hub.requests if r.path.startswith("/storage/")]
    assert parts == [None, f"bytes={DOWNLOAD_CHUNK_SIZE}-"]


@pytest.mark.parametrize("name", ["task.json", "adapter.safetensors"])
def test_a_flipped_byte_is_not_noticed_by_the_client(
    hub: HubServer, ada: Call, tmp_path: Path, name: str
) -> None:
    hub.faults.at(1, "flip")
    got = Path(ada("hf_hub_download", REPO, name, cache_dir=tmp_path)).read_bytes()
    assert [n for n, pair in enumerate(zip(got, FILES[name], strict=True)) if len(set(pair)) > 1] == [
        len(got) // 2
    ]


def test_a_slow_answer_is_late(hub: HubServer, ada: Call) -> None:
    hub.faults.at(1, "slow", seconds=0.3)
    begun = time.monotonic()
    ada("model_info", REPO)
    assert time.monotonic() - begun > 0.3
    hub.faults.at(1, "slow", seconds=5)
    with pytest.raises(Exception, match="timed out"):
        ada("model_info", REPO, timeout=0.2)


def test_a_fault_strikes_the_given_number_of_times(hub: HubServer, ada: Call) -> None:
    hub.faults.at(2, "500", lambda request: request.method == "GET" and request.token, times=2)
    for _ in range(5):
        with suppress(HfHubHTTPError):
            ada("whoami")
    assert [r.status for r in hub.requests] == [200, 500, 500, 200, 200]
    with pytest.raises(ValueError, match="no fault 'melt'"):
        hub.faults.at(1, "melt")  # type: ignore[arg-type]


def test_an_unsupported_request_fails_the_test_and_not_only_the_client() -> None:
    with pytest.raises(NotImplementedError, match="GET /api/spaces"), HubServer() as hub:
        code, body = status(hub, "/api/spaces")
    assert (code, "bug of the test Hub" in json.loads(body)["error"]) == (501, True)
