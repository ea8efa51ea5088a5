"""`task.json`: what an adapter says about itself, beside its weights. No torch is imported here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.fields import Fields
from onetrunk.adapters.format.strict_json import JSON, JSONObject

SCHEMA = 1
"""The schema of `task.json` that this version writes and reads."""

SPLITS = ("train", "dev", "test")
"""The keys that `Manifest.data` may have; `Manifest.metrics` has no `train`."""

MAX_PROBE = 64
"""The most texts that a probe may have: each is computed whenever the adapter is loaded."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord:
    """The distribution that offered the task, and its version."""

    distribution: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRecord:
    """The trunk that the adapter was trained on.

    name: Hub id or folder name. revision: commit, None for a folder. fingerprint: of the weights; tokenizer: of
    the tokenizer. style: which head layout it has (`bert`, `roberta`, …). hidden_size: width; layers: their number.
    """

    name: str
    revision: str | None
    fingerprint: str
    tokenizer: str
    style: str
    hidden_size: int
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """One split: sha256 of the file's bytes, its `rows`, and `source`, a file name without its folder."""

    sha256: str
    rows: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How many numbers were trained, and how many the frozen backbone has."""

    trained: int
    backbone: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Inputs and what they must give. logits: for each text a list of numbers, nested as the task's logits are."""

    texts: tuple[str, ...]
    logits: tuple[list[JSON], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of the artifact: sha256 of its content, and its length in `bytes`."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of `task.json`.

    onetrunk: version that wrote it. level: `token` or `text`. pooling: how a text becomes one vector, None for
    tokens. head: `peft` when it is stored under PEFT's keys in adapter_model.safetensors, `file` when in
    head.safetensors. method: what was trained, `lora` with the head or the `head` alone. settings: of the
    decoder. data: by split. metrics: by split, `dev` and `test`. training: its settings. parent: the version it
    was started from. created: ISO 8601 in UTC. files: all but task.json; `write_artifact` fills it.
    """

    onetrunk: str
    task: str
    plugin: PluginRecord
    level: str
    labels: tuple[str, ...]
    pooling: Literal["cls", "mean"] | None
    head: Literal["peft", "file"]
    method: Literal["lora", "head"]
    settings: JSONObject
    backbone: BackboneRecord
    data: Mapping[str, DataRecord]
    metrics: Mapping[str, JSONObject]
    training: JSONObject
    parent: str | None
    parameters: Parameters
    probe: Probe
    created: str
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> JSONObject:
        """Return the content of `task.json`; it shares nothing with the manifest."""
        value = asdict(self)
        value["labels"] = list(self.labels)
        value["probe"] = {key: list(each) for key, each in value["probe"].items()}
        return value

    def with_files(self, files: Mapping[str, FileRecord]) -> Manifest:
        """Return the manifest with other `files`."""
        return replace(self, files=dict(files))

    @classmethod
    def from_json(cls, obj: JSON, where: Path) -> Manifest:
        """Read `task.json` of the artifact `where`.

        Raises ArtifactError with every fault found, or one that names the schema when it is a newer one.
        """
        _check_schema(obj, where)
        fields = Fields(obj)
        manifest = _read(fields)
        fields.done()
        if fields.faults:
            raise ArtifactError(
                where, f"task.json is faulty: {fields.summary()}; get the adapter again, or train it again"
            )
        return manifest


def _check_schema(obj: JSON, where: Path) -> None:
    schema = obj.get("schema") if isinstance(obj, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise ArtifactError(
            where, f"task.json has schema {schema}, this version reads schema {SCHEMA}; upgrade onetrunk"
        )


def _read(fields: Fields) -> Manifest:
    if fields.whole("schema", 1) != SCHEMA:
        fields.fault("schema", f"must be {SCHEMA}")
    return Manifest(
        onetrunk=fields.text("onetrunk"),
        task=_word(fields, "task"),
        plugin=_plugin(fields.object("plugin")),
        level=_word(fields, "level"),
        labels=_labels(fields),
        pooling=fields.choice("pooling", ("cls", "mean", None)),
        head=fields.choice("head", ("peft", "file")),
        method=fields.choice("method", ("lora", "head")),
        settings=fields.json("settings"),
        backbone=_backbone(fields.object("backbone")),
        data={split: _data(each) for split, each in fields.objects("data", SPLITS).items()},
        metrics=_metrics(fields.object("metrics")),
        training=fields.json("training"),
        parent=fields.optional_text("parent"),
        parameters=_parameters(fields.object("parameters")),
        probe=_probe(fields.object("probe")),
        created=_created(fields),
        files=_files(fields),
    )


def _plugin(fields: Fields) -> PluginRecord:
    record = PluginRecord(distribution=fields.text("distribution"), version=fields.text("version"))
    fields.done()
    return record


def _backbone(fields: Fields) -> BackboneRecord:
    record = BackboneRecord(
        name=fields.text("name"),
        revision=fields.optional_text("revision"),
        fingerprint=fields.text("fingerprint"),
        tokenizer=fields.text("tokenizer"),
        style=_word(fields, "style"),
        hidden_size=fields.whole("hidden_size", 1),
        layers=fields.whole("layers", 1),
    )
    fields.done()
    return record


def _data(fields: Fields) -> DataRecord:
    # A path would tell strangers how somebody's disk is laid out.
    source = fields.text("source", without="/\\")
    record = DataRecord(sha256=_sha256(fields), rows=fields.whole("rows"), source=source)
    fields.done()
    return record


def _metrics(fields: Fields) -> dict[str, JSONObject]:
    found = {split: fields.json(split) for split in SPLITS[1:] if fields.has(split)}
    fields.done()
    return found


def _parameters(fields: Fields) -> Parameters:
    record = Parameters(trained=fields.whole("trained"), backbone=fields.whole("backbone", 1))
    fields.done()
    return record


def _probe(fields: Fields) -> Probe:
    texts, logits = fields.texts("texts"), fields.items("logits")
    if len(texts) > MAX_PROBE:
        fields.fault("texts", f"must be at most {MAX_PROBE}, not {len(texts)}")
    if len(texts) != len(logits):
        fields.fault("logits", f"must have one entry a text, {len(texts)}, not {len(logits)}")
    if not all(isinstance(each, list) and _numbers(each) for each in logits):
        fields.fault("logits", "must be lists of numbers")
    fields.done()
    return Probe(texts=texts, logits=tuple(logits))


def _numbers(value: JSON) -> bool:
    """Tell whether `value` is a number or a list of such; its depth has been checked."""
    return all(map(_numbers, value)) if isinstance(value, list) else type(value) in (int, float)


def _labels(fields: Fields) -> tuple[str, ...]:
    labels = fields.texts("labels")
    if "" in labels or len(set(labels)) != len(labels):
        fields.fault("labels", "must differ from each other, and none may be empty")
    return labels


def _created(fields: Fields) -> str:
    text = fields.text("created")
    try:
        offset = datetime.fromisoformat(text).utcoffset() if text else timedelta(0)
    except ValueError:
        offset = None
    if offset != timedelta(0):
        fields.fault(
            "created", f"must be a time in UTC such as '2026-01-31T12:00:00+00:00', not {text[:60]!r}"
        )
    return text


def _files(fields: Fields) -> dict[str, FileRecord]:
    found = {}
    for name, each in fields.objects("files").items():
        found[name] = FileRecord(sha256=_sha256(each), bytes=each.whole("bytes"))
        each.done()
        if not _FILE.fullmatch(name) or name == "task.json":
            fields.fault("files", f"must not name {name[:64]!r}")
    return found


def _sha256(fields: Fields) -> str:
    return _matching(fields, "sha256", _SHA256, "64 hexadecimal digits in lower case")


def _word(fields: Fields, key: str) -> str:
    return _matching(fields, key, _WORD, "lower-case letters, digits, '_' or '-', at most 64")


def _matching(fields: Fields, key: str, pattern: re.Pattern[str], what: str) -> str:
    text = fields.text(key)
    if text and not pattern.fullmatch(text):
        fields.fault(key, f"must be {what}, not {text[:60]!r}")
    return text
