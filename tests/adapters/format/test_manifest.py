"""task.json: what is written is read back, and every fault is told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.files import FileFault
from onetrunk.adapters.format.manifest import Manifest

HERE = Path("somewhere")
REMOVED = object()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)

FAULTS = [
    ("onetrunk", "", "onetrunk must have at least 1 character, not ''"),
    ("task", "NER", "task must be lower-case letters"),
    ("plugin.version", 3, "plugin.version must be a string, not 3"),
    ("level", REMOVED, "level is missing"),
    ("labels", [], "labels must have at least one item"),
    ("labels", ["a", "a"], "labels must differ"),
    ("labels", ["a", 1], "labels.1 must be a string, not 1"),
    ("pooling", "max", "pooling must be 'cls' or 'mean', not 'max'"),
    ("pooling", REMOVED, "pooling is missing"),
    ("head", None, "head must be 'peft' or 'file', not null"),
    ("method", "full", "method must be 'lora' or 'head', not 'full'"),
    ("settings", [], "settings must be an object, not this list"),
    ("backbone", "bert", "backbone must be an object, not 'bert'"),
    ("backbone.hidden_size", True, "backbone.hidden_size must be a whole number, not True"),
    ("backbone.layers", 0, "backbone.layers must be greater than or equal to 1, not 0"),
    ("backbone.revision", "", "backbone.revision must have at least 1 character"),
    ("backbone.extra", 1, "backbone has the unknown key 'extra'; known: name, revision, fingerprint"),
    ("data.train.sha256", "A" * 64, "data.train.sha256 must be 64 hexadecimal digits"),
    ("data.train.rows", -1, "data.train.rows must be greater than or equal to 0, not -1"),
    (
        "data.train.source",
        "home/me/train.jsonl",
        "data.train.source must be the name of a file without its folder, not 'home",
    ),
    ("data.valid", {}, "data has the key 'valid', which must be train, dev or test"),
    ("metrics.train", {}, "metrics has the key 'train', which must be dev or test"),
    ("metrics.dev", 0.9, "metrics.dev must be an object"),
    ("training", None, "training must be an object, not null"),
    ("parent", 2, "parent must be a string"),
    ("parameters.trained", 1.5, "parameters.trained must be a whole number"),
    ("probe.texts", "good", "probe.texts must be a list, not 'good'"),
    ("probe.logits", [[1.0]], "probe must have logits for each of its 2 texts, not 1"),
    ("probe.logits", [[1.0], ["x"]], "probe must have lists of numbers as logits"),
    ("probe.logits", [[1.0], [math.inf]], "only finite ones"),
    ("created", "yesterday", "created must be a time in UTC"),
    ("created", "2026-01-31T12:00:00", "created must be a time in UTC"),
    ("created", "2026-01-31T12:00:00+01:00", "created must be a time in UTC"),
    (
        "files",
        {"task.json": {"sha256": "a" * 64, "bytes": 1}},
        "files has the key 'task.json', which must be the plain name of a file",
    ),
    (
        "files",
        {"../x": {"sha256": "a" * 64, "bytes": 1}},
        "files has the key '../x', which must be the plain name of a file",
    ),
    ("files", {"x": {"sha256": "a" * 64}}, "files.x.bytes is missing"),
    ("schema", 0, "schema must be greater than or equal to 1, not 0"),
    ("surprise", 1, "has the unknown key 'surprise'"),
]


def changed(manifest: Manifest, path: str, value: object) -> dict[str, Any]:
    """Return the manifest's JSON with the field at the dotted `path` set to `value`, or removed."""
    whole = manifest.to_json()
    *parents, key = path.split(".")
    inner = whole
    for parent in parents:
        inner = inner[parent]
    if value is REMOVED:
        del inner[key]
    else:
        inner[key] = value
    return whole


def test_a_manifest_is_read_back_equal_from_its_bytes(manifest: Manifest) -> None:
    data = strict_json.dump(manifest.to_json())
    assert Manifest.from_json(strict_json.parse(data), HERE) == manifest


def test_the_json_of_a_manifest_shares_nothing_with_it(manifest: Manifest) -> None:
    value = manifest.to_json()
    value["settings"]["deep"]["er"].append("changed")
    assert manifest.settings["deep"]["er"] == [1, None, True]


def test_a_time_with_a_z_is_utc(manifest: Manifest) -> None:
    value = replace(manifest, created="2026-01-31T12:00:00.5Z").to_json()
    assert Manifest.from_json(value, HERE).created.endswith("Z")


@pytest.mark.parametrize(("path", "value", "told"), FAULTS)
def test_a_faulty_field_is_told_by_name(manifest: Manifest, path: str, value: object, told: str) -> None:
    with pytest.raises(ArtifactError, match=r"somewhere: task\.json is faulty: ") as caught:
        Manifest.from_json(changed(manifest, path, value), HERE)
    assert told in str(caught.value)


def test_all_faults_are_told_at_once(manifest: Manifest) -> None:
    value = {**manifest.to_json(), "task": 1, "labels": 2, "created": 3}
    with pytest.raises(ArtifactError, match=r"task must be .*labels must be .*created must be "):
        Manifest.from_json(value, HERE)


@pytest.mark.parametrize("value", [None, [], "text", 3, {}])
def test_other_json_is_no_manifest(value: object) -> None:
    with pytest.raises(ArtifactError, match=r"task\.json is faulty"):
        Manifest.from_json(value, HERE)


def test_a_newer_schema_is_refused_whatever_else_it_has() -> None:
    with pytest.raises(ArtifactError, match="has schema 3, this version reads schema 2; upgrade onetrunk"):
        Manifest.from_json({"schema": 3, "all": "different"}, HERE)


@given(value=json_values)
def test_any_json_in_place_of_the_manifest_is_refused_as_an_artifact_error(value: object) -> None:
    with pytest.raises(ArtifactError, match=r"task\.json"):
        Manifest.from_json(value, HERE)


@given(value=json_values)
def test_json_is_read_back_as_it_was_written(value: object) -> None:
    assert strict_json.parse(strict_json.dump(value)) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b'{"a": 1, "a": 2}', "has the key 'a' twice"),
        (b'{"a": NaN}', "has the number NaN"),
        (b"[-Infinity]", "has the number -Infinity"),
        (b"[1e999]", "has the number 1e999, which is too large"),
        (b'"\xff"', "is not UTF-8"),
        (b'\xef\xbb\xbf{"bom": 1}', "is not JSON"),
        ('"x"'.encode("utf-16"), "is not UTF-8"),
        (rb'"\ud800"', "half a surrogate pair"),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64"),
        (b"[" * 1_000_000, "nested deeper than 64"),
        (b'{"a":' * 100_000, "nested deeper than 64"),
        (b"9" * 5000, "has a whole number with too many digits"),
        (b" " * (strict_json.MAX_BYTES + 1), "at most 16777216 are allowed"),
    ],
    ids=lambda each: each[:12].decode("latin-1") if isinstance(each, bytes) else None,
)
def test_json_from_strangers_is_refused_when_it_is_unsound(data: bytes, why: str) -> None:
    with pytest.raises(FileFault, match=why):
        strict_json.parse(data)


def test_64_levels_of_json_are_read() -> None:
    assert strict_json.parse(b"[" * 64 + b"]" * 64)
