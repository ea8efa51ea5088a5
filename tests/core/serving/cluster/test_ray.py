"""The service on Ray Serve with two replicas: the tests of a single process, and those of several processes."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.core.serving.cluster.same_tests import those_of
from tests.core.serving.conftest import ask
from tests.core.serving.http import (
    test_http,
    test_management_routes,
    test_openapi,
    test_predict_routes,
    test_prometheus,
    test_stream,
)

if find_spec("ray") is None:
    pytest.skip("needs the extra [ray]", allow_module_level=True)

from tests.core.serving.cluster.ray_service import QUEUE, REPLICAS, RayService

pytestmark = pytest.mark.ray

OF_RAY = {
    # Ray's proxy generates its own ids, and adds a Server header.
    "test_every_response_has_its_id_and_the_security_headers",
    # Ray writes the log of each replica and gateway to files of its own.
    "test_the_log_has_a_line_for_each_request_and_no_text",
    "test_the_log_counts_the_lines",
}
MODULES = (
    test_http,
    test_management_routes,
    test_openapi,
    test_predict_routes,
    test_prometheus,
    test_stream,
)
globals().update(those_of(*MODULES, fixtures={"service", "new_trunk"}, but=OF_RAY))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, stock: Path, backbone: Path) -> Iterator[RayService]:
    """The service on Ray, without tokens; its store also has `damaged`, which fails its checks."""
    running = RayService(tmp_path_factory.mktemp("ray"), stock, backbone)
    damaged = shutil.copytree(running.store / "names", running.store / "damaged")
    weights = damaged / "1" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    try:
        yield running
    finally:
        running.end()


def version(service: RayService, name: str) -> str:
    answer = service.predict(ask("good film", name)).json()["results"][0]
    found: str = answer["answers"][0]["version"]
    return found


def lost_and_replaced(service: RayService, deployment: str) -> None:
    """Kill a process of a deployment, and wait for its replacement."""
    lost = service.workers(deployment)
    lost[0].kill()
    assert service.until(
        lambda: lost[0] not in service.workers(deployment) and len(service.workers(deployment)) == len(lost)
    )


class Traffic:
    """Sends requests while the block runs. answers, failures: what came back."""

    def __init__(self, service: RayService, *names: str, threads: int = 4) -> None:
        self._service, self._names = service, names
        self.answers: list[Any] = []
        self.failures: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.2)
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        while not self._end.is_set():
            answer = self._service.predict(*(ask("the film is great", name) for name in self._names))
            if answer.status_code == 200:
                self.answers += [each["answers"][0] for each in answer.json()["results"] if "answers" in each]
                self.failures += [str(each) for each in answer.json()["results"] if "answers" not in each]
            else:
                self.failures.append(answer.text)


def test_the_status_sums_the_limits_of_every_replica(service: RayService) -> None:
    limit = REPLICAS * QUEUE
    assert service.until(lambda: service.client.get("/v1/status").json()["queue"]["limit_tokens"] == limit)


def test_a_response_has_one_id_which_the_client_may_choose(service: RayService) -> None:
    chosen = service.client.get("/nowhere", headers={"X-Request-Id": "mine"})
    assert (chosen.headers.get_list("X-Request-Id"), chosen.json()["instance"]) == (["mine"], "mine")
    headers = service.client.get("/").headers
    assert len(headers.get_list("X-Request-Id")) == 1
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_an_adapter_is_loaded_swapped_and_unloaded(service: RayService) -> None:
    put = service.client.put
    loaded = put("/v1/adapters/new", json={"ref": "mood@1"})
    assert (loaded.status_code, loaded.json()["previous"], loaded.json()["version"]) == (201, None, "mood@1")
    swapped = put("/v1/adapters/new", json={"ref": "mood@2"})
    assert (swapped.status_code, swapped.json()["previous"]) == (200, "mood@1")
    assert version(service, "new") == "mood@2"
    assert service.client.delete("/v1/adapters/new").status_code == 204
    assert service.client.delete("/v1/adapters/new").status_code == 404
    assert service.predict(ask("good", "new")).status_code == 404


def test_a_load_that_fails_its_checks_changes_nothing(service: RayService) -> None:
    answer = service.client.put("/v1/adapters/mood", json={"ref": "damaged"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/adapter-rejected")
    assert "sha256" in answer.json()["detail"]
    assert version(service, "mood") == "mood@2"


def test_during_swaps_every_answer_comes_from_the_version_it_names(
    service: RayService, new_trunk: Any
) -> None:
    alone = {
        name: new_trunk(name).predict(["the film is great"], [name])[0][0].result["score"]
        for name in ("mood@1", "mood@2")
    }
    service.client.put("/v1/adapters/swapped", json={"ref": "mood@1"})
    with Traffic(service, "swapped", "names") as traffic:
        for number in range(20):
            reference = ("mood@2", "mood@1")[number % 2]
            assert service.client.put("/v1/adapters/swapped", json={"ref": reference}).status_code == 200
            failed = service.client.put("/v1/adapters/swapped", json={"ref": "damaged"})
            assert failed.status_code == 422
    assert traffic.failures == []
    swapped = [answer for answer in traffic.answers if answer["adapter"] == "swapped"]
    assert {answer["version"] for answer in swapped} == {"mood@1", "mood@2"}
    for answer in swapped:
        assert answer["score"] == pytest.approx(alone[answer["version"]], abs=1e-4)


def test_a_busy_adapter_is_answered_by_all_replicas(service: RayService) -> None:
    def seconds() -> list[float]:
        return [
            sum(each.cpu_times()[:2]) for each in sorted(service.workers("Trunk"), key=lambda own: own.pid)
        ]

    before = seconds()
    with Traffic(service, *["mood"] * 32, threads=12):
        time.sleep(4)
    spent = [after - first for after, first in zip(seconds(), before, strict=True)]
    assert min(spent) > 0.25 * sum(spent)


def test_no_answer_is_lost_with_a_replica(service: RayService) -> None:
    with Traffic(service, "mood", "mood@1", "names") as traffic:
        lost_and_replaced(service, "Trunk")
    assert traffic.failures == []
    assert len(traffic.answers) > 20


@pytest.mark.parametrize("deployment", ["Names", "Gateway"])
def test_names_survive_the_loss_of_the_name_service_and_of_a_gateway(
    service: RayService, deployment: str
) -> None:
    assert service.client.put("/v1/adapters/kept", json={"ref": "mood@1"}).status_code in (200, 201)
    lost_and_replaced(service, deployment)
    assert service.until(lambda: service.client.get("/readyz").status_code == 200)
    assert service.client.put("/v1/adapters/other", json={"ref": "names"}).status_code in (200, 201)
    assert (version(service, "kept"), version(service, "other")) == ("mood@1", "names@1")
