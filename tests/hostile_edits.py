"""Edits of an artifact's files, of which `tests.hostile` makes what strangers may publish."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

Files = dict[str, bytes]
Edit = Callable[[Files], None]

TASK, CONFIG = "task.json", "adapter_config.json"
MODEL, HEAD, LOG = "adapter_model.safetensors", "head.safetensors", "history.jsonl"


@dataclass(frozen=True)
class Case:
    """An edit of the files, and what the error must say. sealed: whether task.json then has the files' hashes."""

    name: str
    edit: Edit
    reason: str
    sealed: bool = True

    def __str__(self) -> str:
        return self.name


def sealed(files: Files) -> Files:
    """Return the files with their hashes and sizes in task.json, as one who means harm would have them."""
    task = json.loads(files[TASK])
    for name, record in task["files"].items():
        if name in files:
            record |= {"sha256": sha256(files[name]).hexdigest(), "bytes": len(files[name])}
    return {**files, TASK: json.dumps(task).encode()}


def raw(name: str, data: bytes | None) -> Edit:
    """Put these bytes in the place of a file; None takes it away."""

    def edit(files: Files) -> None:
        if data is None:
            del files[name]
        else:
            files[name] = data

    return edit


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Edit:
    """Change the bytes of a file."""

    def edit(files: Files) -> None:
        files[name] = change(files[name])

    return edit


def flip(data: bytes) -> bytes:
    """Return the same bytes but for one in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def text_of(name: str, old: str, new: str) -> Edit:
    """Write other text in the place of `old`, which is there once or more."""

    def change(data: bytes) -> bytes:
        assert old.encode() in data, old
        return data.replace(old.encode(), new.encode(), 1)

    return bytes_of(name, change)


def json_of(name: str, change: Callable[[Any], object]) -> Edit:
    """Change the value of a JSON file in place."""

    def edit(files: Files) -> None:
        value = json.loads(files[name])
        change(value)
        files[name] = json.dumps(value).encode()

    return edit


def task(**fields: Any) -> Edit:
    """Give task.json these fields; `backbone__name` is one of an object in it."""

    def change(value: Any) -> None:
        for path, field in fields.items():
            *above, key = path.split("__")
            at = value
            for step in above:
                at = at[step]
            at[key] = field

    return json_of(TASK, change)


def without(name: str, key: str) -> Edit:
    """Take a key out of a JSON file."""
    return json_of(name, lambda value: value.pop(key))


def listed(name: str) -> Edit:
    """Let task.json name one more file."""
    record = {"sha256": "0" * 64, "bytes": 1}
    return json_of(TASK, lambda value: value["files"].update({name: record}))


def config(**options: Any) -> Edit:
    """Give adapter_config.json these options."""
    return json_of(CONFIG, lambda value: value.update(options))


def weights(change: Callable[[dict[str, Tensor]], object], name: str = MODEL) -> Edit:
    """Change the tensors of a file in place."""

    def edit(files: Files) -> None:
        tensors = load(files[name])
        change(tensors)
        files[name] = save(tensors)

    return edit


def weight(end: str, change: Callable[[Tensor], Tensor], name: str = MODEL) -> Edit:
    """Change the first tensor whose name ends so."""

    def edit(tensors: dict[str, Tensor]) -> None:
        key = next(key for key in sorted(tensors) if key.endswith(end))
        tensors[key] = change(tensors[key]).contiguous()

    return weights(edit, name)


def filled(number: float) -> Callable[[Tensor], Tensor]:
    """Return what puts a number at the beginning of a tensor."""

    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[0] = number
        return tensor

    return change


def renamed(old: str, new: str) -> Edit:
    """Give every tensor whose name has `old` another name."""

    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if old in key]:
            tensors[key.replace(old, new)] = tensors.pop(key)

    return weights(change)


def dropped(end: str) -> Edit:
    """Take away the first tensor whose name ends so."""
    return weights(lambda tensors: tensors.pop(next(key for key in sorted(tensors) if key.endswith(end))))


def safetensors(header: Any, body: bytes = b"") -> bytes:
    """Return a file with this header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def one_tensor(dtype: str, shape: list[int], end: int, body: bytes = b"") -> Edit:
    """Let adapter_model.safetensors claim one tensor."""
    return raw(MODEL, safetensors({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}, body))


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.flag), "w")


def pickled(flag: Path) -> bytes:
    """Return a pickle that makes the file `flag` when it is opened."""
    return pickle.dumps(Bomb(flag))


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value
