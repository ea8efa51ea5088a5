"""What strangers may publish: a sound artifact's files, each time with one thing wrong."""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from torch import Tensor

from tests.hostile_edits import (
    CONFIG,
    HEAD,
    LOG,
    MODEL,
    TASK,
    Case,
    bytes_of,
    config,
    dropped,
    filled,
    flip,
    json_of,
    listed,
    nested,
    one_tensor,
    pickled,
    raw,
    renamed,
    safetensors,
    task,
    text_of,
    weight,
    weights,
    without,
)

IN_HASHES = (
    Case("a flipped byte in the weights", bytes_of(MODEL, flip), rf"{MODEL} has sha256 .*was changed", False),
    Case("a flipped byte in the config", bytes_of(CONFIG, flip), rf"{CONFIG} has sha256", False),
    Case("a byte more", bytes_of(MODEL, lambda data: data + b"x"), r"bytes, task.json says \d+", False),
    Case("half a file", bytes_of(MODEL, lambda data: data[:100]), "has 100 bytes, task.json says", False),
    Case("an empty file", raw(CONFIG, b""), "has 0 bytes, task.json says", False),
    Case("no weights", raw(MODEL, None), rf"{MODEL} is missing"),
    Case("no config", raw(CONFIG, None), rf"{CONFIG} is missing"),
    Case("no card", raw("README.md", None), "README.md is missing"),
    Case("a head that is not listed", json_of(TASK, lambda t: t["files"].pop(HEAD)), f"{HEAD}"),
    Case("a log that is not listed", json_of(TASK, lambda t: t["files"].pop(LOG)), f"{LOG} is not listed"),
    Case("weights that are not listed", json_of(TASK, lambda t: t["files"].pop(MODEL)), f"not list {MODEL}"),
    Case("a hash in capitals", json_of(TASK, lambda t: t["files"][MODEL].update(sha256="A" * 64)),
         "sha256 must be 64 hexadecimal digits in lower case", False),
    Case("a negative size", json_of(TASK, lambda t: t["files"][MODEL].update(bytes=-1)), "must be greater", False),
)  # fmt: skip

IN_PATHS = tuple(
    Case(f"a file named {name!r}", listed(name), reason)
    for name, reason in (
        ("../evil", r"files has the key '\.\./evil', which must be the plain name"),
        ("../../.ssh/authorized_keys", "files has the key"),
        ("/etc/passwd", "files has the key '/etc/passwd'"),
        ("a/b", "files has the key 'a/b'"),
        ("C:\\evil", "files has the key"),
        (".bashrc", "files has the key"),
        ("task.json", "files has the key 'task.json'"),
        ("x\x1b[31m", r"files has the key"),
        ("weights.bin", "lists weights.bin, which the format does not have"),
        ("run.py", "lists run.py, which the format does not have"),
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
    Case("a float beyond all", text_of(TASK, '"rows": ', '"rows": 1e999, "more": '), "has the number 1e999", False),
    Case("an endless integer", text_of(TASK, '"rows": ', '"rows": ' + "1" * 5000), "too many digits", False),
    Case("huge JSON", bytes_of(TASK, lambda data: data + b" " * 2**24), "at most 16777216 are allowed", False),
    Case("half a character", text_of(TASK, '"onetrunk": "', '"onetrunk": "\\ud800'), "half a surrogate", False),
    Case("a config that is a list", raw(CONFIG, b"[]"), f"{CONFIG} must be a JSON object, not list"),
    Case("a deep config", raw(CONFIG, b'{"a":' * 100_000), f"{CONFIG} is nested deeper"),
    Case("a history that is none", raw(LOG, b"{}\nnone\n"), f"{LOG} is not JSON"),
    Case("a card that is no text", raw("README.md", b"\xff\xfe"), "README.md is not UTF-8"),
)  # fmt: skip

IN_TASK = (
    Case("a newer schema", task(schema=3), "has schema 3, this version reads schema 2; upgrade onetrunk"),
    Case("no schema at all", without(TASK, "schema"), "schema is missing"),
    Case("an unknown key", task(run="rm -rf"), "has the unknown key 'run'"),
    Case("a missing key", without(TASK, "probe"), "probe is missing"),
    Case("equal labels", task(labels=["a", "a"]), "labels must differ from each other"),
    Case("an empty label", task(labels=["a", ""]), "none may be empty"),
    Case("no labels", task(labels=[]), "labels must have at least one item"),
    Case("labels that are numbers", task(labels=[1, 2]), "labels.0 must be a string, not 1"),
    Case("a label more", task(labels=["a", "b", "c"]), r"expected \(3,\) for its task and labels"),
    Case("an unknown task", task(task="nope"), "no plugin has the task 'nope'; known: "),
    Case("a backbone without numbers", task(parameters={"trained": 1, "backbone": 0}), "backbone must be greater"),
    Case("a task that is a path", task(task="../ner"), "task must be lower-case letters"),
    Case("another task", task(task="ner", level="token"), "FEATURE_EXTRACTION, the task's head is TOKEN_CLS"),
    Case("another level", task(level="token"), "has level 'token', expected 'text', the level of task 'sentiment'"),
    Case("other weights", task(backbone__fingerprint="0" * 64), "was trained on .* with weights 000000000000"),
    Case("another tokenizer", task(backbone__tokenizer="0" * 64), "was trained with tokenizer"),
    Case("a backbone of no size", task(backbone__hidden_size=0), "hidden_size must be greater than or equal to 1"),
    Case("other probe logits", json_of(TASK, lambda t: t["probe"]["logits"].reverse()), "logits that differ by"),
    Case("vast probe logits", task(probe__logits=[[[1e308, -1e308]]], probe__texts=["a"]), "that differ by"),
    Case("ragged probe logits", task(probe__logits=[[[1.0], [1.0, 2.0]]], probe__texts=["a"]), "gives logits"),
    Case("fewer probe logits", task(probe__logits=[]), "probe must have logits for each of its"),
    Case("words as probe logits", task(probe__logits=[["a"]], probe__texts=["a"]), "must have lists of numbers"),
    Case("no probe", task(probe={"texts": [], "logits": []}), "texts must have at least one item"),
    Case("very many probes", task(probe={"texts": ["a"] * 999, "logits": [[[0.0, 0.0]]] * 999}),
         r"has \d+ texts, at most \d+ are allowed"),
    Case("a path as source", task(data__train__source="/home/ada/x"), "source must be the name of a file"),
    Case("a time that is none", task(created="yesterday"), "created must be a time in UTC"),
    Case("a head in two places", task(head="peft"), "which does not allow head.safetensors"),
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
    Case("an alpha beyond floats", config(lora_alpha=10**400), "has a number of 401 digits"),
    Case("another alpha", config(lora_alpha=999), "gives logits that differ by"),
    Case("an alpha that overflows", config(lora_alpha=1e308), "gives logits that differ by nan"),
    Case("a pattern for ever", config(rank_pattern={"(.|.)*[jz]": 4}), "takes too long to match"),
    Case("a pattern that is none", config(alpha_pattern={"[": 4}), "is not a regular expression"),
    Case("another task type", config(task_type="CAUSAL_LM"), "is stored as CAUSAL_LM"),
)  # fmt: skip

IN_WEIGHTS = (
    Case("NaN", weight("lora_A.weight", filled(float("nan"))), "has numbers that are not finite"),
    Case("infinity", weight("lora_B.weight", filled(float("inf"))), "has numbers that are not finite"),
    Case("a pickle", raw(MODEL, pickled(Path("/dev/null"))), "is not a safetensors file"),
    Case("a zip of pickles", raw(MODEL, b"PK\x03\x04" + b"\0" * 99), "is not a safetensors file"),
    Case("half of it", bytes_of(MODEL, lambda data: data[: len(data) // 2]), "is not a safetensors file"),
    Case("nothing", raw(MODEL, b""), "is not a safetensors file"),
    Case("a header beyond all", raw(MODEL, struct.pack("<Q", 2**63) + b"{}"), "is not a safetensors file"),
    Case("a header beyond the end", raw(MODEL, struct.pack("<Q", 999) + b"{}"), "is not a safetensors file"),
    Case("a header that is no JSON", raw(MODEL, safetensors(b"{" * 500)), "is not a safetensors file"),
    Case("a tensor beyond the end", one_tensor("F32", [2**40], 2**42), "is not a safetensors file"),
    Case("a shape that overflows", one_tensor("F32", [2**62, 2**62], 4, b"\0" * 4), "is not a safetensors file"),
    Case("whole numbers", weight("lora_A.weight", Tensor.long), "is I64, expected one of"),
    Case("a type nobody knows", one_tensor("X9", [1], 4, b"\0" * 4), "is not a safetensors file"),
    Case("a wider A", weight("lora_A.weight", lambda a: torch.cat([a, a], 1)), "the backbone has"),
    Case("a higher A", weight("lora_A.weight", lambda a: torch.cat([a, a])), "but r is"),
    Case("A without dimensions", weight("lora_A.weight", lambda a: a.sum()), r"A is \(\)"),
    Case("no B", dropped("lora_B.weight"), "has only lora_A for layer"),
    Case("a layer that is not there", renamed("layer.0.", "layer.77."), "layer 77 .* no such layer"),
    Case("a module that is not there", renamed("query", "oracle"), "'attention.self.oracle', which is not"),
    Case("an unknown weight", weights(lambda t: t.update(evil=torch.ones(1))), "has 'evil', expected LoRA weights"),
    Case("an unknown head weight", weights(lambda t: t.update(evil=torch.ones(1)), HEAD), "head weight evil"),
    Case("no classifier", weights(lambda t: t.pop("classifier.weight"), HEAD), "head weight classifier.weight"),
    Case("a head for more labels", weight("classifier.weight", lambda w: torch.cat([w, w]), HEAD), "for its task"),
    Case("a head with NaN", weight("classifier.bias", filled(float("nan")), HEAD), "'classifier.bias' has numbers"),
    Case("other answers", weight("classifier.weight", lambda w: -w, HEAD), "gives logits that differ by"),
    Case("other updates", weight("lora_B.weight", lambda b: 50 * b.flip(0)), "gives logits that differ by"),
)  # fmt: skip

CASES = {
    "hashes": IN_HASHES,
    "paths": IN_PATHS,
    "json": IN_JSON,
    "task": IN_TASK,
    "config": IN_CONFIG,
    "weights": IN_WEIGHTS,
}
