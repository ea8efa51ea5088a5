"""The manifest of an adapter, `task.json`: all that is known of it, except its weights. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, FailFast, Field

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.bounds import (
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    MAX_PROBE,
    MAX_PROBE_CHARACTERS,
)
from onetrunk.adapters.format.records import (
    Count,
    RecordFault,
    Sha256,
    Strings,
    Text,
    Whole,
    closed,
    matching,
    read,
)
from onetrunk.adapters.format.strict_json import JSON, JSONObject, faults

SCHEMA = 2
"""The schema of `task.json` that this version writes. It also reads schema 1, which has no `recipe`."""

Recipe: TypeAlias = Literal["token", "cls", "words", "first", "mean"]
"""How a head computes logits from hidden states, if a few lines of Python can do it without OneTrunk.

token: transformers' head for token classification, stored in PEFT's format.
cls: transformers' head for text classification, stored in PEFT's format.
words, first, mean: a linear layer in `head.safetensors`. It reads the hidden states of all tokens, that of the
first token, or their mean.
"""

SPLITS = ("train", "dev", "test")
"""The parts of a data set."""

Word: TypeAlias = Annotated[
    str, matching("[a-z][a-z0-9_-]{0,63}", "lower-case letters, digits, '_' or '-', at most 64")
]
"""The name of a task, of a level or of a head's style."""
_FileName: TypeAlias = Annotated[
    str,
    matching(r"(?!task\.json$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "the plain name of a file beside task.json"),
]


def _check_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if "" in labels or len(set(labels)) != len(labels):
        raise ValueError("must differ from each other, and none may be empty")
    if len(labels) > MAX_LABELS:
        raise ValueError(f"has {len(labels)} labels, at most {MAX_LABELS} are allowed")
    if (longest := max(map(len, labels), default=0)) > MAX_LABEL_CHARACTERS:
        raise ValueError(f"has a label of {longest} characters, at most {MAX_LABEL_CHARACTERS} are allowed")
    return labels


def _check_probe(probe: Probe) -> Probe:
    if len(probe.texts) > MAX_PROBE:
        raise ValueError(f"has {len(probe.texts)} texts, at most {MAX_PROBE} are allowed")
    if (longest := max(map(len, probe.texts), default=0)) > MAX_PROBE_CHARACTERS:
        raise ValueError(f"has a text of {longest} characters, at most {MAX_PROBE_CHARACTERS} are allowed")
    if len(probe.texts) != len(probe.logits):
        raise ValueError(
            f"must have logits for each of its {len(probe.texts)} texts, not {len(probe.logits)}"
        )
    if not all(map(_numbers, probe.logits)):
        raise ValueError("must have lists of numbers as logits")
    return probe


def _numbers(value: JSON) -> bool:
    """Tell whether `value` is a number or a nested list of numbers."""
    return all(map(_numbers, value)) if isinstance(value, list) else type(value) in (int, float)


def _check_time(text: str) -> str:
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise ValueError(f"must be a time in UTC such as '2026-01-31T12:00:00+00:00', not {text[:60]!r}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord:
    """The Python distribution that has the task's plugin, and its version."""

    distribution: Text
    version: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRecord:
    """The backbone that the adapter was trained on.

    name: Hub id, or name of a folder.
    revision: commit on the Hub; None for a folder.
    fingerprint: hash of the weights.
    tokenizer: hash of the tokenizer.
    style: family whose classification head transformers uses (`bert`, `roberta`, …).
    hidden_size: width of the hidden states.
    """

    name: Text
    revision: Text | None
    fingerprint: Text
    tokenizer: Text
    style: Word
    hidden_size: Count
    layers: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """One split of the data: the hash of its examples' content, their number, and the name of the file.

    notes: what the words of the task and the tokens of the backbone cannot express of it, one sentence each.
    """

    sha256: Sha256
    rows: Whole
    notes: tuple[Text, ...] = ()
    source: Annotated[str, matching(r"[^/\\]+", "the name of a file without its folder")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The number of trained parameters, and of parameters of the frozen backbone."""

    trained: Whole
    backbone: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Texts, and the logits that the adapter must compute for them when it is loaded: nested lists of numbers."""

    texts: Strings
    logits: Annotated[tuple[list[JSON], ...], FailFast()]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """The sha256 of a file's content, and its size in bytes."""

    sha256: Sha256
    bytes: Whole


@closed
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of `task.json`.

    onetrunk: version of OneTrunk that wrote the file.
    level: what gets a row of logits, `token` or `text`.
    word_splitter: identifier of the rule that splits texts into words; None for the level `text`, and for the first
        rule of the task.
    pooling: how the hidden states of a text become one vector; None for the level `token`.
    head: where the head's weights are: `peft` for adapter_model.safetensors, `file` for head.safetensors.
    method: what was trained: `lora` for LoRA and the head, `head` for the head alone.
    recipe: how the head computes logits; None if only the plugin defines it.
    settings: settings of the decoder.
    metrics: metrics of the splits `dev` and `test`.
    training: settings of the training.
    parent: reference of the version that the training continued; None for a new adapter.
    created: ISO 8601 in UTC.
    files: all files of the artifact except task.json; `write_artifact` fills it.
    """

    onetrunk: Text
    task: Word
    plugin: PluginRecord
    level: Word
    word_splitter: Text | None = None
    labels: Annotated[Strings, AfterValidator(_check_labels)]
    pooling: Literal["cls", "mean"] | None
    head: Literal["peft", "file"]
    method: Literal["lora", "head"]
    recipe: Recipe | None = None
    settings: JSONObject
    backbone: BackboneRecord
    data: Mapping[Annotated[str, matching("train|dev|test", "train, dev or test")], DataRecord]
    metrics: Mapping[Annotated[str, matching("dev|test", "dev or test")], JSONObject]
    training: JSONObject
    parent: Text | None
    parameters: Parameters
    probe: Annotated[Probe, AfterValidator(_check_probe)]
    created: Annotated[str, AfterValidator(_check_time)]
    files: Mapping[_FileName, FileRecord]
    schema: Annotated[int, Field(ge=1, le=SCHEMA)]

    def to_json(self) -> JSONObject:
        """Return the content of `task.json`. It shares no object with the manifest."""
        value = asdict(self)
        value["labels"] = list(self.labels)
        value["data"] = {split: {**own, "notes": list(own["notes"])} for split, own in value["data"].items()}
        value["probe"] = {key: list(each) for key, each in value["probe"].items()}
        return value

    def with_files(self, files: Mapping[str, FileRecord]) -> Manifest:
        """Return the manifest with other `files`."""
        return replace(self, files=dict(files))

    @classmethod
    def from_json(cls, obj: JSON, where: Path) -> Manifest:
        """Return the manifest with the content `obj`. where: folder of the artifact, for messages.

        Raises ArtifactError with all faults; if the schema is newer than `SCHEMA`, only with that.
        """
        schema = obj.get("schema") if isinstance(obj, dict) else None
        if type(schema) is int and schema > SCHEMA:
            why = f"task.json has schema {schema}, this version reads schema {SCHEMA}; upgrade onetrunk"
            raise ArtifactError(where, why)
        try:
            if wrong := next(faults(obj), None):
                raise RecordFault([wrong])
            return replace(read(cls, obj), schema=SCHEMA)
        except RecordFault as error:
            why = f"task.json is faulty: {error}; get the adapter again, or train it again"
            raise ArtifactError(where, why) from None
