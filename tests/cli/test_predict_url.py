"""`adapters predict --url` against a real `adapters serve`: the same output as without, and what it refuses."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.client import Client, ClientError
from tests.peer import Asked, Peer, Said, listening, problem, said

ADAPTERS = (sys.executable, "-m", "onetrunk.cli.main")
TOKEN = "a-token-of-32-characters-nobody-knows"
TEXTS = ("the film is good", "", "Ada in London", "東京 🙂\u2028x", "not great, not awful")

Both = Callable[..., tuple[Any, Any]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port: int = place.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the service's file of tokens, and `mine`, a file with one of them."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "tokens.toml").write_text(
        f'[[token]]\nname = "mine"\ntoken = "{TOKEN}"\nscopes = ["predict"]\nadapters = ["mood", "names"]\n'
    )
    (folder / "tokens.toml").chmod(0o600)
    (folder / "mine").write_text(TOKEN + "\n")
    return folder


@pytest.fixture(scope="module")
def service(stock: Path, backbone: Path, tokens: Path) -> Iterator[str]:
    """The URL of a service of mood, names and mood@1, which asks for a token."""
    port = free_port()
    line = (*ADAPTERS, "serve", "mood", "names", "mood@1", "--backbone", str(backbone), "--precision", "fp32")
    options = ("--port", str(port), "--token-file", str(tokens / "tokens.toml"))
    environment = {**os.environ, "ONETRUNK_HOME": str(stock), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*line, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(process, url)
        yield url
    finally:
        process.terminate()
        assert process.wait(30) in (0, 143)


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + 90
    while True:
        assert process.poll() is None, "the service has ended"
        try:
            with Client(url, TOKEN, timeout=5) as client:
                if client.status()["status"] == "ready":
                    return
        except ClientError:
            assert time.monotonic() < until, "the service does not start"
        time.sleep(0.1)


@pytest.fixture
def remote(run: Any, service: str, tokens: Path) -> Any:
    """Run `adapters predict` with the service."""

    def call(refs: str, *arguments: object, input: str | None = None) -> Any:
        return run("predict", refs, *arguments, "--url", service, "--token", tokens / "mine", input=input)

    return call


@pytest.fixture
def both(run: Any, remote: Any, stocked: Path, backbone: Path) -> Both:
    """Run `adapters predict` without and with the service."""

    def call(refs: str, *arguments: object, input: str | None = None) -> tuple[Any, Any]:
        own = ("--backbone", backbone, "--precision", "fp32")
        return run("predict", refs, *arguments, *own, input=input), remote(refs, *arguments, input=input)

    return call


FRACTION = re.compile(r"\d\.\d+(?:e-\d+)?")


def assert_same_but_for_last_digits(one: str, other: str) -> None:
    """Compare texts and, within 1e-4, their numbers: fp32's last digits depend on what else is in a batch."""
    assert FRACTION.sub("#", one) == FRACTION.sub("#", other)
    numbers = [[float(number) for number in FRACTION.findall(text)] for text in (one, other)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["for people", "json"])
@pytest.mark.parametrize("refs", ["mood", "names", "names,mood,mood"])
def test_the_output_is_that_of_the_local_command(both: Both, refs: str, form: tuple[str, ...]) -> None:
    local, served = both(refs, *TEXTS, *form)
    assert (served.exit_code, served.stderr) == (0, "")
    assert_same_but_for_last_digits(served.stdout, local.stdout)


@pytest.mark.parametrize("arguments", [(), ("-",), ("--input", "-")])
def test_stdin_is_read_as_by_the_local_command(both: Both, arguments: tuple[str, ...]) -> None:
    local, served = both("mood", *arguments, "--json", input="good\n\nbad\n")
    assert_same_but_for_last_digits(served.stdout, local.stdout)
    assert len(served.stdout.splitlines()) == 3


def test_a_file_is_read_and_written_as_by_the_local_command(both: Both, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"id": number, "text": f"the film {number} is good", "adapter": "mine"} for number in range(1200)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    local, served = both("mood,names", "--input", source, "--json")
    assert_same_but_for_last_digits(served.stdout, local.stdout)
    both("mood,names", "--input", source, "--output", out)
    written = out.read_text(encoding="utf-8")
    assert_same_but_for_last_digits(written, local.stdout)
    assert json.loads(served.stdout.splitlines()[-1])["input"] == {"id": 1199, "adapter": "mine"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--backbone", "b"), "--backbone"),
        (("--device", "auto"), "--device"),
        (("--precision", "auto"), "--precision"),
        (("--batch-tokens", "64"), "--batch-tokens"),
        (("--device", "cpu", "--precision", "fp32"), "--device, --precision"),
    ],
)
def test_options_of_a_trunk_are_wrong_usage_with_a_service(
    run: Any, options: tuple[str, ...], named: str
) -> None:
    done = run("predict", "mood", "good", "--url", "http://127.0.0.1:1", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{named} cannot be combined with --url; the service decides these settings" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("good", "--url", ""), "--url is empty; give the URL of a service"),
        (("good", "--token", "file"), "--token is only for a service; also give --url"),
        (("--url", "http://h", "--token", "-"), "stdin cannot hold both the token and the texts"),
        (("-", "--url", "http://h", "--token", "-"), "stdin cannot hold both the token and the texts"),
        (("--input", "-", "--url", "http://h", "--token", "-"), "stdin cannot hold both"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    run: Any, arguments: tuple[str, ...], message: str
) -> None:
    done = run("predict", "mood", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_what_is_no_url_is_an_error_in_a_line(run: Any) -> None:
    done = run("predict", "mood", "good", "--url", "localhost:8080")
    assert (done.exit_code, done.stdout) == (1, "")
    expected = (
        "error: 'localhost:8080' is not the URL of a service; expected http://HOST:PORT or https://HOST\n"
    )
    assert done.stderr == expected


def test_the_token_may_come_from_stdin(run: Any, service: str) -> None:
    done = run("predict", "mood", "good", "--url", service, "--token", "-", input=TOKEN + "\n")
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("token", [None, "another-token-of-32-characters-xxxxx"])
def test_without_the_right_token_it_is_an_error_that_does_not_say_it(
    run: Any, service: str, tmp_path: Path, token: str | None
) -> None:
    (tmp_path / "token").write_text(token or "")
    options = ("--token", tmp_path / "token") if token else ()
    done = run("--traceback", "predict", "mood", "good", "--url", service, *options)
    assert done.exit_code == 1
    assert done.exception.problem["status"] == 401
    assert not token or token not in done.output + str(done.exception)


def test_an_adapter_that_the_token_may_not_use_is_an_error(remote: Any) -> None:
    done = remote("mood@1", "good")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.match(r"error: http://127\.0\.0\.1:\d+: text 1: ", done.stderr)


def test_an_adapter_that_is_not_served_is_an_error_and_writes_nothing(remote: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    done = remote("mood,nobody", "good", "--output", out)
    assert (done.exit_code, out.read_text()) == (1, "before")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob(".*"))


def test_a_fault_in_the_file_leaves_the_output_as_it_was(remote: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "good"}\n{"txt": "bad"}\n')
    done = remote("mood", "--input", source, "--output", out)
    assert done.exit_code == 1
    assert f'{source}:2: "text" must be a string' in done.stderr
    assert not out.exists()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with listening() as server:
        yield server


def answered(asked: Asked) -> Said:
    lines = [
        json.dumps({"answers": [{"adapter": "m", "version": "m@1", "task": "t", "label": each["text"]}]})
        for each in asked.lines
    ]
    return Said("".join(f"{line}\n" for line in lines).encode(), kind="application/x-ndjson")


def test_what_a_service_says_reaches_a_terminal_without_its_escapes(run: Any, peer: Peer) -> None:
    peer.says(problem(404, "unknown-adapter", "no \x1b[2J adapter\nerror: x"))
    done = run("predict", "m", "good", "--url", peer.url)
    assert done.exit_code == 1
    assert done.stderr == f"error: {peer.url}: no \\x1b[2J adapter\\nerror: x\n"


def test_a_page_in_place_of_a_service_is_an_error_in_a_line(run: Any, peer: Peer) -> None:
    peer.says(Said(b"<html>hello</html>", kind="text/html"))
    done = run("predict", "m", "good", "--url", peer.url)
    assert done.exit_code == 1
    expected = (
        "responds with status 200 and content type text/html; a OneTrunk service does not; check the URL"
    )
    assert done.stderr == f"error: {peer.url}: {expected}\n"


def test_with_a_service_no_torch_is_loaded(peer: Peer) -> None:
    peer.says(answered)
    script = (
        "import sys; from onetrunk.cli.main import run; code = run(sys.argv[1:]);"
        "print(*{'torch', 'transformers', 'peft'} & {*sys.modules}); sys.exit(code)"
    )
    line = [sys.executable, "-c", script, "predict", "m", "good", "--url", peer.url, "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ['{"text": "good", "adapter": "m@1", "label": "good"}', ""]


def test_ctrl_c_ends_a_wait_for_a_service_and_leaves_no_output(peer: Peer, tmp_path: Path) -> None:
    asked, over = threading.Event(), threading.Event()

    def silent(_asked: Asked) -> Said:
        asked.set()
        over.wait(30)
        return said({})

    peer.says(silent)
    out = tmp_path / "out.jsonl"
    line = [*ADAPTERS, "predict", "m", "good", "--url", peer.url, "--output", str(out)]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    try:
        assert asked.wait(20)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
    finally:
        over.set()
        process.kill()
    assert (process.returncode, told.strip()) == (130, "interrupted")
    assert list(tmp_path.iterdir()) == []


def test_whoever_types_is_answered_line_by_line(peer: Peer) -> None:
    peer.says(answered)
    ours, theirs = pty.openpty()
    line = [*ADAPTERS, "predict", "m", "--json", "--url", peer.url, "-"]
    process = subprocess.Popen(line, stdin=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    try:
        assert process.stdout is not None
        for text in ("good", "bad"):
            os.write(ours, f"{text}\n".encode())
            assert json.loads(process.stdout.readline())["label"] == text
        os.write(ours, b"\x04")
        assert process.wait(10) == 0
    finally:
        process.kill()
        os.close(ours)
