"""`adapters serve` as a process of its own: what it serves, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from onetrunk.core.testing import tiny_backbone
from tests.core.serving.conftest import ask
from tests.core.serving.process import LINE, Process

WITHOUT_EXTRA = """
import sys
from importlib.machinery import PathFinder
class Without:
    def find_spec(name, path=None, target=None):
        return None if name in ("starlette", "uvicorn") else PathFinder.find_spec(name, path, target)
sys.meta_path = [Without if each is PathFinder else each for each in sys.meta_path]
from onetrunk.cli.main import run
sys.exit(run(["serve"]))
"""


Start = Callable[..., Process]


@pytest.fixture
def start(stock: Path, backbone: Path) -> Iterator[Start]:
    """Run (*arguments, store=…) → `adapters serve`, by default on the stock and its backbone."""
    processes: list[Process] = []

    def run(*arguments: object, store: Path = stock, on: Path | None = backbone) -> Process:
        chosen = ("--backbone", on) if on is not None else ()
        processes.append(Process(*chosen, *arguments, store=store))
        return processes[-1]

    yield run
    for each in processes:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def failed(*arguments: object, store: Path) -> str:
    """Run `adapters serve` with arguments that it cannot serve with; return what it says."""
    environment = {**os.environ, "ONETRUNK_HOME": str(store)}
    done = subprocess.run(
        [*LINE, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_references_the_newest_of_every_adapter_of_the_backbone_is_served(
    start: Start, stock: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(stock, store)
    shutil.copytree(store / "names" / "1", store / "broken" / "1")
    (store / "broken" / "1" / "adapter_model.safetensors").write_bytes(b"x")
    (store / "odd" / "1").mkdir(parents=True)
    (store / "odd" / "1" / "task.json").write_text("{")
    process = start(store=store)
    assert process.said[0].startswith("not served: ")  # odd, which cannot be read
    assert "loaded mood@2 as mood" in process.said
    assert any(line.startswith("not served: broken: ") for line in process.said)
    assert process.said[-1] == f"serving at {process.url}, 2 adapters: mood, names"
    answer = process.client.post("/v1/predict", json={"inputs": [ask("good", "mood", "names")]})
    assert [each["version"] for each in answer.json()["results"][0]["answers"]] == ["mood@2", "names@1"]
    assert process.client.get("/v1/status").json()["backbone"] == "tiny"
    code, errors = process.end()
    events = [json.loads(line) for line in errors.splitlines()]
    assert code == 0
    assert [event["event"] for event in events] == ["serving", "request", "request", "stopping", "stopped"]


def test_an_adapter_that_was_named_and_cannot_be_loaded_ends_the_service(
    stock: Path, backbone: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(stock, store)
    (store / "names" / "1" / "adapter_model.safetensors").write_bytes(b"x")
    said = failed("--backbone", backbone, "--port", "0", "mood", "names", store=store)
    (line,) = [each for each in said.splitlines() if each.startswith("error: ")]
    assert "adapter_model.safetensors" in line


def test_references_serve_under_themselves_or_under_a_name(start: Start) -> None:
    process = start("mood@1", "people=names", "mood", "--max-queue", "99", "--max-batch-tokens", "50")
    served = {each["name"]: each for each in process.client.get("/v1/adapters").json()["adapters"]}
    assert {name: (each["version"], each["ref"]) for name, each in served.items()} == {
        "mood": ("mood@2", "mood"),
        "mood@1": ("mood@1", "mood@1"),
        "people": ("names@1", "names"),
    }
    assert process.client.get("/v1/status").json()["queue"]["limit_tokens"] == 99
    assert process.end(signal.SIGINT)[0] == 0


def test_an_empty_store_is_served_and_said_how_to_fill(start: Start, stock: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start(store=store)
    assert "no adapters loaded" in process.said[-1]
    assert f"curl -X PUT {process.url}/v1/adapters/NAME" in process.said[-1]
    shutil.copytree(stock, store)
    assert process.client.put("/v1/adapters/mood", json={"ref": "mood"}).status_code == 201
    assert process.client.post("/v1/predict", json={"inputs": [ask()]}).status_code == 200


def test_a_configuration_is_read_and_options_win(start: Start, tmp_path: Path) -> None:
    token = "a-token-of-some-length"
    (tmp_path / "tokens.toml").write_text(f'[[token]]\nname = "a"\ntoken = "{token}"\nscopes = ["predict"]\n')
    file = tmp_path / "serve.toml"
    file.write_text(
        'max_queue = 77\nport = 1\ntoken_file = "tokens.toml"\n[adapters]\nfeeling = "mood@1"\n'
        "[limits]\ncharacters = 10\n"
    )
    process = start("--config", file, "--host", "0.0.0.0")
    headers = {"Authorization": f"Bearer {token}"}
    local = f"http://127.0.0.1:{process.port}"
    status = httpx2.get(f"{local}/v1/status", headers=headers, trust_env=False).json()
    assert (status["queue"]["limit_tokens"], status["limits"]["max_characters"]) == (77, 10)
    assert httpx2.get(f"{local}/v1/status", trust_env=False).status_code == 401
    assert process.said[-1].endswith("1 adapter: feeling")
    code, errors = process.end()
    assert code == 0
    assert "other users can read the token file" in errors
    assert token not in errors


def test_a_location_serves_under_its_name_in_the_store(
    start: Start, stock: Path, backbone: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "ONETRUNK_HOME": str(stock)}
    place = (tmp_path / "shared" / "feelings").as_uri()
    line = [*LINE[:-1], "push", "mood@1", place]
    subprocess.run(line, env=environment, check=True, capture_output=True)
    process = start(place, f"other={place}", store=tmp_path / "store")
    assert process.said[-1].endswith("2 adapters: feelings, other")


def test_a_location_that_was_used_is_not_served_unless_it_is_named(
    start: Start, stock: Path, backbone: Path, tmp_path: Path
) -> None:
    store, place = tmp_path / "store", (tmp_path / "shared" / "mood").as_uri()
    shutil.copytree(stock, store)
    environment = {**os.environ, "ONETRUNK_HOME": str(store)}
    for line in (("push", "mood@1", place), ("predict", place, "good", "--backbone", backbone)):
        subprocess.run([*LINE[:-1], *map(str, line)], env=environment, check=True, capture_output=True)
    process = start(store=store)
    assert [line for line in process.said if line.startswith("not served: file--mood--")]
    assert {"loaded mood@2 as mood", f"serving at {process.url}, 2 adapters: mood, names"} <= set(
        process.said
    )


def test_adapters_of_another_backbone_are_left_out(start: Start, stock: Path, tmp_path: Path) -> None:
    other = tiny_backbone(tmp_path / "other", mean_pooling=True, seed=7)
    process = start(on=other)
    assert "not served: mood: it needs the backbone tiny" in process.said
    assert "no adapters loaded" in process.said[-1]


def test_errors_are_told_in_a_line_before_anything_is_loaded(stock: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        return failed(*arguments, store=stock)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}: address already in use" in said("--port", port)
    assert "other machines can reach this address, which needs tokens" in said("--host", "0.0.0.0")
    assert "other machines can reach this address" in said("--host", "::", "--port", "0")
    assert "host 'no.such.host.invalid': no such address" in said("--host", "no.such.host.invalid")
    assert "Invalid value for '--port'" in said("--port", "70000")
    assert "two adapters have the served name 'mood'" in said("mood", "mood=mood@1", "--port", "0")
    assert "has no adapter after the =; expected NAME=REF" in said("mood=", "--port", "0")
    assert "no adapter 'nobody' in the store" in said("nobody", "--port", "0")
    assert "invalid adapter name 'a b'" in said("a b=mood", "--port", "0")
    assert "trained on the local folder 'tiny'" in said("--port", "0")
    file = tmp_path / "serve.toml"
    file.write_text("prot = 1")
    assert f"{file}: has the unknown key 'prot'" in said("--config", file)
    assert "tokens.toml: cannot be read" in said("--token-file", tmp_path / "tokens.toml")


def test_help_loads_nothing_heavy(stock: Path) -> None:
    program = (
        "import sys\nfrom onetrunk.cli.main import run\nrun(['serve', '--help'])\n"
        "sys.exit(bool({'torch', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "adapters serve ner@prod mood=sentiment@3 --port 8080" in done.stdout


def test_a_missing_extra_is_told_with_what_installs_it() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRA], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: missing packages: starlette, uvicorn; pip install 'onetrunk[serve]'\n"


def test_a_second_signal_ends_the_process_at_once(start: Start) -> None:
    process = start("mood")
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        time.sleep(0.3)
        process.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert process.process.poll() is None  # it waits for the body, which has begun
        began = time.monotonic()
        assert process.end()[0] == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2


class Load:
    """Clients that send request after request, until the service has gone. outcomes: what came of each."""

    def __init__(self, url: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._url = url
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(12)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)

    def _run(self, keep: bool) -> None:
        """keep: send all on one connection, else each on one of its own."""
        headers = {} if keep else {"Connection": "close"}
        body: Any = {"inputs": [ask("the film is good", "mood", "names")] * 3}
        with httpx2.Client(base_url=self._url, timeout=60, trust_env=False, headers=headers) as client:
            while True:
                try:
                    answer = client.post("/v1/predict", json=body)
                except httpx2.ConnectError:  # nobody accepts any more
                    self.outcomes["refused"] += 1
                    return
                except httpx2.TransportError as error:
                    self.outcomes[f"{type(error).__name__}: {error}"] += 1
                    return
                whole = answer.status_code != 200 or len(answer.json()["results"]) == 3
                self.outcomes[str(answer.status_code) if whole else "not all results"] += 1


def test_under_load_every_accepted_request_is_answered_before_the_end(start: Start) -> None:
    process = start("mood", "names", "--max-queue", "100000")
    load = Load(process.url)
    time.sleep(2)
    code, errors = process.end()
    load.join()
    assert code == 0
    assert load.outcomes["200"] > 50
    assert set(load.outcomes) <= {"200", "503", "refused"}, load.outcomes
    assert json.loads(errors.splitlines()[-1])["event"] == "stopped"
