"""The service on Ray at minimal capacity: one version and one running call a replica, two queued calls."""

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
    """A service of every adapter of the store, and of `mood@1`."""
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


def test_without_configured_adapters_the_whole_store_is_served(narrow: RayService) -> None:
    listed = narrow.client.get("/v1/adapters").json()["adapters"]
    assert {each["name"]: each["version"] for each in listed} == VERSIONS


def test_versions_that_evict_each_other_are_reloaded_for_each_text(narrow: RayService) -> None:
    for _ in range(10):
        for name, version in VERSIONS.items():
            (answer,) = narrow.predict(ask("good film", name)).json()["results"][0]["answers"]
            assert (answer["adapter"], answer["version"]) == (name, version)


def test_requests_beyond_the_capacity_are_refused_with_retry_after_and_the_others_are_answered(
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


def test_a_stream_waits_for_capacity(narrow: RayService) -> None:
    body = lines(*({**ask("good film", name), "id": name} for _ in range(100) for name in VERSIONS))
    found = stream(narrow, body)  # type: ignore[arg-type]  # it uses only the attribute `client`
    assert [each["answers"][0]["version"] for each in found] == [*VERSIONS.values()] * 100
