"""What strangers may publish: a sound artifact's files, each time with one thing wrong."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

Files = dict[str, bytes]
Edit = Callable[[Files], None]

TASK, CONFIG = "task.json", "adapter_config.json"
MODEL, HEAD = "adapter_model.safetensors", "head.safetensors"


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
    """Would make a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/tmp/onetrunk-was-here", "w"))


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


IN_HASHES = (
    Case("a flipped byte in the weights", bytes_of(MODEL, flip), rf"{MODEL} has sha256 .*was changed", False),
    Case("a flipped byte in the config", bytes_of(CONFIG, flip), rf"{CONFIG} has sha256", False),
    Case("a byte more", bytes_of(MODEL, lambda data: data + b"x"), r"bytes, task.json says \d+", False),
    Case("half a file", bytes_of(MODEL, lambda data: data[:100]), "has 100 bytes, task.json says", False),
    Case("an empty file", raw(CONFIG, b""), "has 0 bytes, task.json says", False),
    Case("no weights", raw(MODEL, None), rf"{MODEL} is missing"),
    Case("no config", raw(CONFIG, None), rf"{CONFIG} is missing"),
    Case("no card", raw("README.md", None), "README.md is missing"),
    Case("a history that is not listed", json_of(TASK, lambda t: t["files"].pop("history.jsonl")), "history.jsonl is not listed"),
    Case("weights that are not listed", json_of(TASK, lambda t: t["files"].pop(MODEL)), f"not list {MODEL}"),
    Case("a hash in capitals", json_of(TASK, lambda t: t["files"][MODEL].update(sha256="A" * 64)),
         "sha256 must be 64 hexadecimal digits in lower case", False),
    Case("a negative size", json_of(TASK, lambda t: t["files"][MODEL].update(bytes=-1)), "whole number", False),
)  # fmt: skip

IN_PATHS = tuple(
    Case(f"a file named {name!r}", listed(name), reason)
    for name, reason in (
        ("../evil", r"files must not name '\.\./evil'"),
        ("../../.ssh/authorized_keys", "files must not name"),
        ("/etc/passwd", "files must not name '/etc/passwd'"),
        ("a/b", "files must not name 'a/b'"),
        ("C:\\evil", "files must not name"),
        (".bashrc", "files must not name"),
        ("task.json", "files must not name 'task.json'"),
        ("x\x1b[31m", r"files must not name"),
        ("weights.bin", "lists weights.bin, unknown to the format"),
        ("run.py", "lists run.py, unknown to the format"),
    )
)

IN_JSON = (
    Case("an empty task.json", raw(TASK, b""), "task.json is not JSON", False),
    Case("a list", raw(TASK, b"[]"), "must be an object, not this list", False),
    Case("not UTF-8", raw(TASK, b'{"a": "\xff"}'), "task.json is not UTF-8", False),
    Case("deep JSON", raw(TASK, b"[" * 100_000), "is nested deeper than 64 levels", False),
    Case("deep settings", task(settings={"x": nested(70)}), "is nested deeper than 64 levels"),
    Case("a key twice", text_of(TASK, "{", '{"task": "ner", '), "has the key 'task' twice", False),
    Case("NaN", task(metrics__test={"f1": float("nan")}), "has the number NaN", False),
    Case("a float beyond all", text_of(TASK, '"rows": ', '"rows": 1e999, "more": '), "has the number inf", False),
    Case("an endless integer", text_of(TASK, '"rows": ', '"rows": ' + "1" * 5000), "is not JSON: Exceeds", False),
    Case("huge JSON", bytes_of(TASK, lambda data: data + b" " * 2**24), "at most 16777216 are allowed", False),
    Case("half a character", text_of(TASK, '"onetrunk": "', '"onetrunk": "\\ud800'), "not valid Unicode", False),
    Case("a config that is a list", raw(CONFIG, b"[]"), f"{CONFIG} must be a JSON object, not list"),
    Case("a deep config", raw(CONFIG, b'{"a":' * 100_000), f"{CONFIG} is nested deeper"),
    Case("a history that is none", raw("history.jsonl", b"{}\nnone\n"), "history.jsonl is not JSON"),
    Case("a card that is no text", raw("README.md", b"\xff\xfe"), "README.md is not UTF-8"),
)  # fmt: skip

IN_TASK = (
    Case("a newer schema", task(schema=2), "has schema 2, this version reads schema 1; upgrade onetrunk"),
    Case("no schema at all", without(TASK, "schema"), "schema is missing"),
    Case("an unknown key", task(run="rm -rf"), "has the unknown key 'run'"),
    Case("a missing key", without(TASK, "probe"), "probe is missing"),
    Case("equal labels", task(labels=["a", "a"]), "labels must differ from each other"),
    Case("an empty label", task(labels=["a", ""]), "none may be empty"),
    Case("no labels", task(labels=[]), "labels must be a list of texts, at least one"),
    Case("labels that are numbers", task(labels=[1, 2]), "labels must be a list of texts"),
    Case("a label more", task(labels=["a", "b", "c"]), r"its labels and task need \(3,"),
    Case("an unknown task", task(task="nope"), "no plugin offers task 'nope'; known: "),
    Case("a task that is a path", task(task="../ner"), "task must be lower-case letters"),
    Case("another task", task(task="ner", labels=["O", "B-X"]), "is stored as FEATURE_EXTRACTION, the task's head as TOKEN_CLS"),
    Case("another level", task(level="token"), "says level 'token', the task 'sentiment' is of level 'text'"),
    Case("other weights", task(backbone__fingerprint="0" * 64), "was trained on .* with weights 000000000000"),
    Case("another tokenizer", task(backbone__tokenizer="0" * 64), "was trained with another tokenizer"),
    Case("a backbone of no size", task(backbone__hidden_size=0), "hidden_size must be a whole number from 1"),
    Case("other probe logits", json_of(TASK, lambda t: t["probe"]["logits"].reverse()), "logits that differ by"),
    Case("vast probe logits", task(probe__logits=[[[1e308, -1e308]]], probe__texts=["a"]), "that differ by"),
    Case("ragged probe logits", task(probe__logits=[[[1.0], [1.0, 2.0]]], probe__texts=["a"]), "gives logits"),
    Case("fewer probe logits", task(probe__logits=[]), "logits must have one entry a text"),
    Case("words as probe logits", task(probe__logits=[["a"]], probe__texts=["a"]), "must be lists of numbers"),
    Case("no probe", task(probe={"texts": [], "logits": []}), "texts must be a list of texts, at least one"),
    Case("very many probes", task(probe={"texts": ["a"] * 999, "logits": [[[0.0, 0.0]]] * 999}),
         r"texts must be at most \d+"),
    Case("a path as source", task(data__train__source="/home/ada/x"), "source must be text without"),
    Case("a time that is none", task(created="yesterday"), "created must be a time in UTC"),
    Case("a head in two places", task(head="peft"), "which has no place for head.safetensors"),
)  # fmt: skip

IN_CONFIG = (
    Case("another method", config(peft_type="IA3"), "peft_type is 'IA3', expected 'LORA'"),
    Case("a method nobody knows", config(peft_type="EVIL\x1b[2J"), r"peft_type is 'EVIL\\x1b"),
    Case("no method", without(CONFIG, "peft_type"), "peft_type is None"),
    Case("DoRA", config(use_dora=True), "not supported: use_dora=True"),
    Case("trained biases", config(bias="all"), "not supported: bias='all'"),
    Case("PiSSA", config(init_lora_weights="pissa_niter_16"), "not supported: init_lora_weights='pissa"),
    Case("replicated layers", config(layer_replication=[[0, 9]]), "not supported: layer_replication"),
    Case("another rank", config(r=7), r"but r is 7"),
    Case("rank 0", config(r=0), "r=0, .* expected positive numbers"),
    Case("a rank in words", config(r="four"), "r='four', .* expected positive numbers"),
    Case("a negative alpha", config(lora_alpha=-1), "lora_alpha=-1 .*expected positive numbers"),
    Case("an alpha beyond floats", config(lora_alpha=10**400), "expected positive numbers"),
    Case("another alpha", config(lora_alpha=999), "gives logits that differ by"),
    Case("an alpha that overflows", config(lora_alpha=1e308), "gives logits that differ by nan"),
    Case("a pattern for ever", config(rank_pattern={"(a+)+$": 4}), "which might take very long to match"),
    Case("a pattern that is none", config(alpha_pattern={"[": 4}), "which is no regular expression"),
    Case("another task type", config(task_type="CAUSAL_LM"), "is stored as CAUSAL_LM"),
)  # fmt: skip

IN_WEIGHTS = (
    Case("NaN", weight("lora_A.weight", filled(float("nan"))), "has numbers that are not finite"),
    Case("infinity", weight("lora_B.weight", filled(float("inf"))), "has numbers that are not finite"),
    Case("a pickle", raw(MODEL, pickle.dumps(Bomb())), "is not a safetensors file"),
    Case("a zip of pickles", raw(MODEL, b"PK\x03\x04" + b"\0" * 99), "is not a safetensors file"),
    Case("half of it", bytes_of(MODEL, lambda data: data[: len(data) // 2]), "is not a safetensors file"),
    Case("nothing", raw(MODEL, b""), "is not a safetensors file"),
    Case("a header beyond all", raw(MODEL, struct.pack("<Q", 2**63) + b"{}"), "is not a safetensors file"),
    Case("a header beyond the end", raw(MODEL, struct.pack("<Q", 999) + b"{}"), "is not a safetensors file"),
    Case("a header that is no JSON", raw(MODEL, safetensors(b"{" * 500)), "is not a safetensors file"),
    Case("a tensor beyond the end", one_tensor("F32", [2**40], 2**42), "is not a safetensors file"),
    Case("a shape that overflows", one_tensor("F32", [2**62, 2**62], 4, b"\0" * 4), "is not a safetensors file"),
    Case("whole numbers", weight("lora_A.weight", Tensor.long), "is int64, expected one of"),
    Case("a type nobody knows", one_tensor("X9", [1], 4, b"\0" * 4), "is not a safetensors file"),
    Case("a wider A", weight("lora_A.weight", lambda a: torch.cat([a, a], 1)), "the backbone has"),
    Case("a higher A", weight("lora_A.weight", lambda a: torch.cat([a, a])), "but r is"),
    Case("A without dimensions", weight("lora_A.weight", lambda a: a.sum()), r"A is \(\)"),
    Case("no B", dropped("lora_B.weight"), "has only lora_A for layer"),
    Case("a layer that is not there", renamed("layer.0.", "layer.77."), "layer 77 .* the backbone has None"),
    Case("a module that is not there", renamed("query", "oracle"), "'attention.self.oracle', not an encoder"),
    Case("an unknown weight", weights(lambda t: t.update(evil=torch.ones(1))), "evil"),
    Case("an unknown weight of the head", weights(lambda t: t.update(evil=torch.ones(1)), HEAD), "head weight evil"),
    Case("no classifier", weights(lambda t: t.pop("classifier.weight"), HEAD), "head weight classifier.weight"),
    Case("a head for more labels", weight("classifier.weight", lambda w: torch.cat([w, w]), HEAD), "labels and task need"),
    Case("a head with NaN", weight("classifier.bias", filled(float("nan")), HEAD), "head.safetensors: 'classifier.bias' has numbers"),
    Case("other answers", weight("classifier.weight", lambda w: -w, HEAD), "gives logits that differ by"),
    Case("other updates", weight("lora_B.weight", lambda b: b + 9, MODEL), "gives logits that differ by"),
)  # fmt: skip

CASES = {
    "hashes": IN_HASHES,
    "paths": IN_PATHS,
    "json": IN_JSON,
    "task": IN_TASK,
    "config": IN_CONFIG,
    "weights": IN_WEIGHTS,
}
