"""Fixtures: the tests' Hub, and the unmodified client in a child process (it reads its environment at import)."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hub_server import HubServer
from tests.hub_server.sample_repo import FILES, REPO, Call

# Reads calls of HfApi methods, pickled, from stdin; writes the value returned or the error raised to stdout.
CHILD = """
import pickle, sys, warnings
from collections.abc import Iterator
from huggingface_hub import HfApi
warnings.simplefilter("ignore")
while True:
    try:
        endpoint, token, method, args, options = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        value = getattr(HfApi(endpoint=endpoint, token=token), method)(*args, **options)
        answer = True, list(value) if isinstance(value, Iterator) else value
    except Exception as error:
        answer = False, error
    try:
        sent = pickle.dumps(answer)
        pickle.loads(sent)
    except Exception:
        sent = pickle.dumps((False, RuntimeError(repr(answer))))
    sys.stdout.buffer.write(sent)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(page=3) as server:
        yield server


@pytest.fixture(scope="package")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    """One client process for all tests: importing the client takes longer than running them."""
    with (
        HubServer() as server,
        subprocess.Popen(
            [sys.executable, "-c", CHILD],
            env=server.environment(cache=tmp_path_factory.mktemp("cache")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def api(hub: HubServer, child: subprocess.Popen[bytes]) -> Callable[..., Call]:
    """Return (token or False) → a function that calls a method of HfApi by name; raises what the method raises."""

    def client(token: str | bool = False) -> Call:
        def call(method: str, *args: Any, **options: Any) -> Any:
            assert child.stdin
            assert child.stdout
            pickle.dump((hub.url, token, method, args, options), child.stdin)
            child.stdin.flush()
            worked, value = pickle.load(child.stdout)
            if not worked:
                raise value
            return value

        return call

    return client


@pytest.fixture
def ada(hub: HubServer, api: Callable[..., Call]) -> Call:
    """A client with the token of the owner of REPO; the repo holds FILES."""
    hub.create_repo(REPO).commit(FILES)
    return api(hub.add_user("ada"))
