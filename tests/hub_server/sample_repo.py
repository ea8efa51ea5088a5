"""The files of a sample repo, and requests that the tests of the Hub make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from huggingface_hub import CommitOperationAdd

from tests.hub_server import HubServer

CARD = b"""---
library_name: peft
pipeline_tag: token-classification
base_model: org/base
tags: [onetrunk, ner]
---
# An adapter
"""
WEIGHTS = bytes(range(256)) * 300
FILES = {"README.md": CARD, "task.json": b'{"task": "ner"}', "adapter.safetensors": WEIGHTS}
REPO = "ada/ner"
Call = Callable[..., Any]


def adding(**files: bytes) -> list[CommitOperationAdd]:
    return [
        CommitOperationAdd(path_in_repo=name.replace("_", "."), path_or_fileobj=data)
        for name, data in files.items()
    ]


def status(hub: HubServer, path: str, **headers: str) -> tuple[int, bytes]:
    """Return status and body of the response to a GET request."""
    try:
        with urlopen(Request(hub.url + path, headers=headers)) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()
