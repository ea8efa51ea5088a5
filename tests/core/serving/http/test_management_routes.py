"""The routes for operators over HTTP: list, load, swap and unload adapters, and the status."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.serving.http.auth import Access, Grant
from tests.core.serving.conftest import ADAPTERS, Running, Serve, ask, running


@pytest.mark.parametrize("name", ["nobody", "a%2Fb", "%00", "é", "x" * 90, "..%2f..", "%ff"])
def test_a_name_that_is_not_served_is_refused(service: Running, name: str) -> None:
    for method in ("GET", "DELETE"):
        assert service.client.request(method, f"/v1/adapters/{name}").status_code in (404, 422)


def test_adapters_are_listed_by_name_with_all_fields(service: Running) -> None:
    service.predict(ask())
    listed = service.client.get("/v1/adapters").json()["adapters"]
    assert [each["name"] for each in listed] == sorted(ADAPTERS)
    mood = listed[0]
    assert (mood["version"], mood["ref"], mood["task"], mood["tier"]) == (
        "mood@2",
        "mood",
        "sentiment",
        "device",
    )
    assert mood["labels"] == ["negative", "positive"]
    assert mood["since"].endswith("Z")
    assert mood["requests"] >= 1
    assert mood["p95_ms"] > 0
    assert service.client.get("/v1/adapters/mood").json().keys() == mood.keys()


def test_the_status_has_backbone_queue_and_limits(service: Running) -> None:
    status = service.client.get("/v1/status").json()
    assert (status["status"], status["device"], status["precision"], status["adapters"]) == (
        "ready",
        "cpu",
        "fp32",
        3,
    )
    assert status["backbone"] == "tiny"  # not where its folder is
    assert status["queue"]["tokens"] == 0
    assert status["limits"]["max_inputs"] == 256


def test_an_adapter_is_loaded_swapped_and_unloaded(serve: Any) -> None:
    with serve() as service:
        put = service.client.put
        assert service.predict(ask("good", "new")).status_code == 404
        loaded = put("/v1/adapters/new", json={"ref": "mood@1"})
        assert (loaded.status_code, loaded.json()["previous"], loaded.json()["version"]) == (
            201,
            None,
            "mood@1",
        )
        swapped = put("/v1/adapters/new", json={"ref": "mood@2"})
        assert (swapped.status_code, swapped.json()["previous"]) == (200, "mood@1")
        answer = service.predict(ask("good", "new")).json()["results"][0]["answers"][0]
        assert (answer["adapter"], answer["version"]) == ("new", "mood@2")
        gone = service.client.delete("/v1/adapters/new")
        assert (gone.status_code, gone.content) == (204, b"")
        assert service.client.delete("/v1/adapters/new").status_code == 404
        events = [(event["event"], event.get("version")) for event in service.events()]
        assert [event for event in events if event[0] not in ("request", "serving")] == [
            ("loaded", "mood@1"),
            ("loaded", "mood@2"),
            ("unloaded", None),
        ]


@pytest.mark.parametrize(
    ("ref", "status", "kind"),
    [
        ("mood@9", 404, "unknown-reference"),
        ("nobody", 404, "unknown-reference"),
        ("file:///nowhere/at/all", 404, "unknown-reference"),
        ("Mood!", 422, "invalid-request"),
        ("", 422, "invalid-request"),
        ("x" * 5000, 422, "invalid-request"),
        ("\ud800", 422, "invalid-request"),
        (3, 422, "invalid-request"),
        (None, 422, "invalid-request"),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_a_load_that_fails_changes_nothing(service: Running, ref: Any, status: int, kind: str) -> None:
    body = json.dumps({"ref": ref}).encode()
    answer = service.client.put(
        "/v1/adapters/mood", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
    assert service.client.get("/v1/adapters/mood").json()["version"] == "mood@2"


@pytest.mark.parametrize("name", [".hidden", "-x", "x%20y", "é", "x" * 101, "a%2Bb"])
def test_an_invalid_served_name_is_refused(service: Running, name: str) -> None:
    answer = service.client.put(f"/v1/adapters/{name}", json={"ref": "mood"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")


def test_a_location_that_cannot_exist_is_a_problem_and_not_a_server_error(service: Running) -> None:
    reference = "file:///" + "a" * 300 + "/ner"
    answer = service.client.put("/v1/adapters/new", json={"ref": reference})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/adapter-rejected")
    assert "cannot be read: File name too long" in answer.json()["detail"]


def test_no_problem_of_a_load_contains_the_path_of_the_store(
    small: Backbone, stock: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(stock, store)
    (store / "names" / "1" / "adapter_model.safetensors").write_bytes(b"x")
    (store / "mood" / "1" / "task.json").write_text("{")
    with running(OneTrunk(small, store=Store(store))) as own:
        answers = [
            own.client.put("/v1/adapters/new", json={"ref": each}) for each in ("names", "mood@1", "nobody")
        ]
    assert [each.status_code for each in answers] == [422, 422, 404]
    assert (
        "the adapter failed its checks: adapter_model.safetensors has 1 bytes" in answers[0].json()["detail"]
    )
    assert [each.text for each in answers if str(tmp_path) in each.text] == []
    failed = [event["why"] for event in own.events("load-failed")]
    assert str(store / "names" / "1") in failed[0]


SOME = Grant("some", frozenset({"admin"}), ("mood", "new"))
LIMITED = {"Authorization": "Bearer some-token-for-some"}


@pytest.fixture(scope="module")
def limited(serve: Serve) -> Iterator[Running]:
    """A service whose only token, LIMITED, is for the names of SOME."""
    with serve(Access({hashlib.sha256(b"some-token-for-some").digest(): SOME})) as service:
        yield service


@pytest.mark.parametrize("reference", ["evil/people", "file:///tmp/people", "org/names@v1"])
def test_a_token_for_some_names_cannot_load_from_a_location(limited: Running, reference: str) -> None:
    answer = limited.client.put("/v1/adapters/new", json={"ref": reference}, headers=LIMITED)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert "from a location" in answer.json()["detail"]


def test_the_problem_of_an_unknown_reference_lists_only_names_of_the_token(limited: Running) -> None:
    for reference, known in (("namez", "none"), ("names@7", "none"), ("mood@7", "mood@1, mood@2")):
        answer = limited.client.put("/v1/adapters/new", json={"ref": reference}, headers=LIMITED)
        assert answer.json()["type"] == "/problems/unknown-reference"
        assert answer.json()["detail"].endswith(f"known: {known}")


def test_the_status_counts_the_names_of_the_token(limited: Running, service: Running) -> None:
    assert limited.client.get("/v1/status", headers=LIMITED).json()["adapters"] == 1
    assert service.client.get("/v1/status").json()["adapters"] == len(ADAPTERS)
