"""The service on Ray where there is little room: a version a replica, a call at a time, two that may wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.core.serving.conftest import ask
from tests.core.serving.http.test_stream import lines, stream

if find_spec("ray") is None:
    pytest.skip("needs the extra [ray]", allow_module_level=True)

from tests.core.serving.cluster.ray_service import RayService

pytestmark = pytest.mark.ray
VERSIONS = {"mood": "mood@2", "mood@1": "mood@1", "names": "names@1"}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, stock: Path, backbone: Path) -> Iterator[RayService]:
    """A service of all that is in the store, and of `mood@1`."""
    folder = tmp_path_factory.mktemp("ray")
    room = {"max_ongoing_requests": 1, "max_queued_requests": 2}
    running = RayService(
        folder, stock, backbone, max_loaded=1, trunk=room, adapters=None, limits={"adapters": 1}
    )
    try:
        running.client.put("/v1/adapters/mood@1", json={"ref": "mood@1"}).raise_for_status()
        yield running
    finally:
        running.end()


def test_all_of_the_store_serves_where_no_adapters_are_named(narrow: RayService) -> None:
    listed = narrow.client.get("/v1/adapters").json()["adapters"]
    assert {each["name"]: each["version"] for each in listed} == VERSIONS


def test_versions_that_push_each_other_out_are_brought_back_for_each_text(narrow: RayService) -> None:
    for _ in range(10):
        for name, version in VERSIONS.items():
            (answer,) = narrow.predict(ask("good film", name)).json()["results"][0]["answers"]
            assert (answer["adapter"], answer["version"]) == (name, version)


def test_what_finds_no_room_is_refused_with_the_time_to_try_again_and_the_rest_is_answered(
    narrow: RayService,
) -> None:
    with ThreadPoolExecutor(24) as pool:
        asked = [name for _ in range(100) for name in VERSIONS]
        answers = list(pool.map(lambda name: narrow.predict(ask("good film", name)), asked))
    kinds = Counter(answer.status_code for answer in answers)
    assert set(kinds) == {200, 429}
    assert kinds[200] > 20
    for name, answer in zip(asked, answers, strict=True):
        if answer.status_code == 200:
            assert answer.json()["results"][0]["answers"][0]["version"] == VERSIONS[name]
        else:
            assert (answer.json()["type"], answer.headers["Retry-After"]) == ("/problems/queue-full", "1")


def test_a_stream_waits_for_room(narrow: RayService) -> None:
    body = lines(*({**ask("good film", name), "id": name} for _ in range(100) for name in VERSIONS))
    found = stream(narrow, body)  # type: ignore[arg-type]  # it needs no more than a client
    assert [each["answers"][0]["version"] for each in found] == [*VERSIONS.values()] * 100
