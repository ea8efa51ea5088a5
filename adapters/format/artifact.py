"""Read and write artifacts. An artifact is an adapter as a folder on disk, in PEFT's format plus `task.json`.

Equal content is written as equal bytes, `task.json` last. An artifact that is read may come from anyone: reading
accepts only regular files with names of the format, parses only JSON and safetensors, and checks the size and hash
of each file against `task.json`. torch is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onetrunk.adapters.errors import ArtifactError, HashMismatch
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.files import FileFault, read_regular, sha256, sync_folder, write_new
from onetrunk.adapters.format.manifest import FileRecord, Manifest
from onetrunk.adapters.format.strict_json import JSON, JSONObject

if TYPE_CHECKING:
    from torch import Tensor

TASK = "task.json"
CONFIG = "adapter_config.json"
MODEL = "adapter_model.safetensors"
HEAD = "head.safetensors"
CARD = "README.md"
HISTORY = "history.jsonl"
PICTURE = "training.png"

FORMAT_FILES = (CONFIG, MODEL, HEAD, TASK, CARD, HISTORY, PICTURE)
"""The files of an artifact; head.safetensors, history.jsonl and training.png are optional."""
WEIGHTS = (MODEL, HEAD)

MAX_WEIGHTS = 2**30
"""The largest safetensors file that is read, in bytes."""

_SAFE_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A verified artifact.

    id: sha256 of task.json. Artifacts with equal ids are equal, because task.json has the sha256 of the other
    files.
    adapter_model: tensors of adapter_model.safetensors by name, on the CPU.
    head: tensors of head.safetensors by name, on the CPU; None without that file.
    """

    path: Path
    id: str
    manifest: Manifest
    adapter_config: JSONObject
    adapter_model: dict[str, Tensor]
    head: dict[str, Tensor] | None


@dataclass(frozen=True, slots=True, eq=False)
class ArtifactContent:
    """The contents of all files except `task.json`, before they are written.

    adapter_model: tensors of adapter_model.safetensors by name.
    head: tensors of head.safetensors by name; None if `adapter_model` has the head.
    card: the model card, Markdown.
    history: one object for each epoch of the training; empty if there was no training.
    """

    adapter_config: JSONObject
    adapter_model: Mapping[str, Tensor]
    head: Mapping[str, Tensor] | None = None
    card: str = ""
    history: Sequence[JSON] = ()


def write_artifact(folder: Path, manifest: Manifest, content: ArtifactContent) -> Manifest:
    """Write an artifact into the existing empty `folder`. Return its manifest with `files` filled.

    All files are flushed to disk (fsync) when this returns. Raises ArtifactError, before anything is written, if
    the folder is not empty or if `read_artifact` would refuse the content.
    """
    if not folder.is_dir() or any(folder.iterdir()):
        raise ArtifactError(folder, "an existing empty folder was expected to write an adapter into")
    complete, contents = _encoded(folder, manifest, content)
    for name, data in contents.items():  # task.json comes last
        write_new(folder / name, data)
    sync_folder(folder)
    return complete


def artifact_bytes(folder: Path, manifest: Manifest, content: ArtifactContent) -> int:
    """Return how many bytes `write_artifact` would write, without writing them. Raises ArtifactError like it.

    folder: for messages.
    """
    return sum(map(len, _encoded(folder, manifest, content)[1].values()))


def _encoded(folder: Path, manifest: Manifest, content: ArtifactContent) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest with `files` filled, and the content of each file; `task.json` is the last one."""
    if fault := next(strict_json.faults(content.card), None):
        raise ArtifactError(folder, f"{CARD} {fault}; nothing was written")
    contents = {
        CONFIG: strict_json.dump(_checked(folder, CONFIG, content.adapter_config)),
        MODEL: _save(folder, MODEL, content.adapter_model),
        CARD: content.card.encode("utf-8"),
    }
    if content.head is not None:
        contents[HEAD] = _save(folder, HEAD, content.head)
    if content.history:
        rows = (_checked(folder, HISTORY, row) for row in content.history)
        contents[HISTORY] = b"".join(map(strict_json.dump_line, rows))
    records = {name: FileRecord(sha256=sha256(data), bytes=len(data)) for name, data in contents.items()}
    complete = manifest.with_files(records)
    contents[TASK] = strict_json.dump(_checked(folder, TASK, complete.to_json()))
    for name, data in contents.items():
        if len(data) > (most := size_limit(name)):
            raise ArtifactError(folder, f"{name} would have {len(data)} bytes, at most {most} are allowed")
    _check_files(folder, Manifest.from_json(strict_json.parse(contents[TASK]), folder))
    return complete, contents


def read_manifest(folder: Path) -> Manifest:
    """Read `task.json` only, without verifying the other files. Raises ArtifactError."""
    return Manifest.from_json(_parse(folder, TASK, _read(folder, TASK)), folder)


def read_id(folder: Path) -> str:
    """Return the id of the artifact in `folder` without verifying it. Raises ArtifactError."""
    return sha256(_read(folder, TASK))


def read_artifact(folder: Path) -> Artifact:
    """Read and verify a whole artifact.

    Raises HashMismatch for a changed file, and ArtifactError for anything else that `write_artifact` would not
    write. Both name the file.
    """
    entries = _entries(folder)
    task = _read(folder, TASK)
    manifest = Manifest.from_json(_parse(folder, TASK, task), folder)
    _check_files(folder, manifest)
    if stray := sorted(set(entries) - set(manifest.files) - {TASK}):
        raise _damaged(folder, f"{', '.join(stray)} is not listed in {TASK}")
    contents = {name: _verified(folder, name, record) for name, record in manifest.files.items()}
    for line in contents.get(HISTORY, b"").splitlines():
        _parse_object(folder, HISTORY, line)
    try:
        contents[CARD].decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(folder, f"{CARD} is not UTF-8 at byte {error.start}") from error
    return Artifact(
        path=folder,
        id=sha256(task),
        manifest=manifest,
        adapter_config=_parse_object(folder, CONFIG, contents[CONFIG]),
        adapter_model=_load(folder, MODEL, contents[MODEL]),
        head=_load(folder, HEAD, contents[HEAD]) if HEAD in contents else None,
    )


def read_object(folder: Path, name: str) -> JSONObject:
    """Read a JSON object from any folder, with the checks for artifacts. Raises ArtifactError."""
    return _parse_object(folder, name, _read(folder, name))


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read safetensors from any folder, with the checks for artifacts. Raises ArtifactError."""
    return _load(folder, name, _read(folder, name))


def size_limit(name: str) -> int:
    """Return the largest size in bytes of the file `name` of an artifact."""
    return MAX_WEIGHTS if name in WEIGHTS else strict_json.MAX_BYTES


def _damaged(folder: Path, why: str) -> ArtifactError:
    return ArtifactError(folder, f"{why}; get the adapter again, or train it again")


def _entries(folder: Path) -> list[str]:
    """Return the names of the files in `folder`. Raises ArtifactError for files that the format does not have.

    Files whose names begin with a dot, such as `.DS_Store` of file managers, are ignored.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _damaged(folder, f"cannot be read as a folder ({error.strerror})") from error
    for entry in entries:
        if entry.name not in FORMAT_FILES:
            raise ArtifactError(folder, f"{entry.name!r} is not a file of an adapter; move it elsewhere")
        if entry.is_symlink() or not entry.is_file():
            raise _damaged(folder, f"{entry.name} is not a regular file")
    return [entry.name for entry in entries]


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless `manifest.files` are files of the format that fit `manifest.head`."""
    listed = set(manifest.files)
    if foreign := sorted(listed - set(FORMAT_FILES)):
        raise _damaged(folder, f"task.json lists {', '.join(foreign)}, which the format does not have")
    if missing := [name for name in (CONFIG, MODEL, CARD) if name not in listed]:
        raise _damaged(folder, f"task.json does not list {', '.join(missing)}")
    if (manifest.head == "file") != (HEAD in listed):
        want = "needs" if manifest.head == "file" else "does not allow"
        raise _damaged(folder, f"task.json says head {manifest.head!r}, which {want} {HEAD}")


def _verified(folder: Path, name: str, record: FileRecord) -> bytes:
    data = _read(folder, name)
    if len(data) != record.bytes:
        raise _damaged(folder, f"{name} has {len(data)} bytes, task.json says {record.bytes}")
    if (found := sha256(data)) != record.sha256:
        raise HashMismatch(folder, name, record.sha256, found)
    return data


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_regular(folder / name, size_limit(name))
    except FileFault as error:
        raise _damaged(folder, f"{name} {error}") from error


def _parse(folder: Path, name: str, data: bytes) -> JSON:
    try:
        return strict_json.parse(data)
    except FileFault as error:
        raise _damaged(folder, f"{name} {error}") from error


def _parse_object(folder: Path, name: str, data: bytes) -> JSONObject:
    value = _parse(folder, name, data)
    if not isinstance(value, dict):
        raise _damaged(folder, f"{name} must be a JSON object, not {type(value).__name__}")
    return value


def _checked(folder: Path, name: str, value: JSON) -> JSONObject:
    """Return `value`. Raises ArtifactError unless it is an object that can be written to the file `name`."""
    fault = next(strict_json.faults(value), None)
    if fault or not isinstance(value, dict):
        raise ArtifactError(folder, f"{name} {fault or 'must be a JSON object'}; nothing was written")
    return value


def _save(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> bytes:
    """Return `tensors` as safetensors. Equal tensors give equal bytes, in any order or memory layout."""
    import torch
    from safetensors.torch import save

    _check_tensors(folder, name, tensors)
    # Cloned, because safetensors refuses tensors that share memory, such as slices of a fused weight.
    plain = {
        key: tensors[key].detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for key in sorted(tensors)
    }
    return save(plain, metadata={"format": "pt"})


def _load(folder: Path, name: str, data: bytes) -> dict[str, Tensor]:
    from safetensors import SafetensorError, deserialize
    from safetensors.torch import load

    try:
        # `load` raises a bare KeyError for a dtype that it does not know, so dtypes are checked before it.
        for key, view in deserialize(data):  # type: ignore[no-untyped-call]
            _check_dtype(folder, name, key, _SAFE_DTYPES.get(view["dtype"], view["dtype"]))
        tensors = load(data)
    except SafetensorError as error:
        raise _damaged(folder, f"{name} is not a safetensors file ({error})") from error
    _check_tensors(folder, name, tensors)
    return tensors


def _check_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    import numpy as np
    import torch

    for key, tensor in tensors.items():
        _check_dtype(folder, name, key, str(tensor.dtype).removeprefix("torch."))
        known = tensor.detach().cpu()
        if (
            known.dtype == torch.bfloat16
        ):  # numpy does not have it; torch takes six times as long for many tensors
            known = known.float()
        if not np.isfinite(known.numpy()).all():
            raise ArtifactError(folder, f"{name}: {key!r} has numbers that are not finite; train it again")


def _check_dtype(folder: Path, name: str, key: str, dtype: str) -> None:
    if dtype not in (known := _SAFE_DTYPES.values()):
        raise ArtifactError(folder, f"{name}: {key!r} is {dtype}, expected one of {', '.join(known)}")
