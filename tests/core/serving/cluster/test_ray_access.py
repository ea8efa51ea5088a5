"""Tokens where the service runs on Ray Serve: the same tests as for one process."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.core.serving.cluster.same_tests import those_of
from tests.core.serving.http import test_auth as test_access

if find_spec("ray") is None:
    pytest.skip("needs the extra [ray]", allow_module_level=True)

from tests.core.serving.cluster.ray_service import RayService

pytestmark = pytest.mark.ray

OF_RAY = {
    # Each gateway has its log in a file of Ray's, and its engines in other processes.
    "test_the_log_has_the_name_of_the_token_and_never_the_token",
    "test_an_admin_of_some_names_cannot_touch_others",
}
globals().update(those_of(test_access, fixtures={"guarded"}, but=OF_RAY))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, stock: Path, backbone: Path) -> Iterator[RayService]:
    """The service on Ray with the tokens of the other tests."""
    folder = tmp_path_factory.mktemp("ray")
    tokens = test_access.written(folder, test_access.FILE)
    running = RayService(folder, stock, backbone, tokens=tokens)
    try:
        yield running
    finally:
        running.end()


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_admin_of_some_names_cannot_touch_those_of_others(guarded: RayService, method: str) -> None:
    body = {"ref": "mood@1"} if method == "PUT" else None
    refused = guarded.client.request(
        method, "/v1/adapters/mood", json=body, headers=test_access.bearer(test_access.OPS)
    )
    answer = guarded.client.get("/v1/adapters/mood", headers=test_access.bearer(test_access.ALL))
    assert (refused.status_code, answer.json()["version"]) == (403, "mood@2")
