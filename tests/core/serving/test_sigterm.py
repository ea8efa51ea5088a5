"""SIGTERM while something is loaded: the process ends soon, with code 0."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.core.serving.process import LINE, Process


@pytest.mark.parametrize("line", ["loading ", "listening at "])
def test_while_the_backbone_or_the_adapters_are_loaded(
    stock: Path, backbone: Path, tmp_path: Path, line: str
) -> None:
    store = tmp_path / "store"
    shutil.copytree(stock, store)
    for number in range(60):
        shutil.copytree(store / "names" / "1", store / f"more-{number}" / "1")
    process = subprocess.Popen(
        [*LINE, "--port", "0", "--backbone", str(backbone)],
        env={**os.environ, "ONETRUNK_HOME": str(store), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(each.startswith(line) for each in process.stdout)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.fixture
def hanging_hub() -> Iterator[str]:
    """Yield the URL of a Hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        yield f"http://127.0.0.1:{hub.getsockname()[1]}"


def test_while_an_adapter_is_loaded_from_a_hub_that_hangs(
    stock: Path, backbone: Path, hanging_hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hanging_hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    process = Process("--backbone", backbone, "mood", store=stock)
    found: list[httpx2.Response] = []

    def load() -> None:
        found.append(process.client.put("/v1/adapters/far", json={"ref": "org/repo"}, timeout=60))

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(1.5)
    began = time.monotonic()
    assert process.client.put("/v1/adapters/near", json={"ref": "mood"}).status_code == 201
    code, errors = process.end()
    thread.join(60)
    assert time.monotonic() - began < 15
    assert (code, "Traceback" in errors) == (0, False), errors
    assert (found[0].status_code, found[0].json()["type"]) == (
        503,
        "/problems/shutting-down",
    ), found[0].text
