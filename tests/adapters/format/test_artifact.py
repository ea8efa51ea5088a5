"""An artifact on disk: the same bytes for the same content, and nothing unsound is ever read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from onetrunk.adapters.errors import ArtifactError, HashMismatch
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.artifact import (
    FORMAT_FILES,
    ArtifactContent,
    read_artifact,
    read_manifest,
    write_artifact,
)
from onetrunk.adapters.format.files import sha256
from onetrunk.adapters.format.manifest import Manifest

A = torch.arange(32.0).reshape(4, 8)
B = torch.linspace(-1, 1, 32).reshape(8, 4)


def write(folder: Path, manifest: Manifest, **changes: Any) -> Manifest:
    """Write a small artifact into the new `folder`."""
    folder.mkdir()
    parts: dict[str, Any] = {
        "adapter_config": {"r": 4, "peft_type": "LORA"},
        "adapter_model": {"a": A, "b": B},
        "card": "# Card\n",
        "history": [{"epoch": 1}],
    }
    return write_artifact(folder, manifest, ArtifactContent(**{**parts, **changes}))


def spoil(folder: Path, name: str, data: bytes) -> None:
    """Put `data` into a file and its true hash into task.json, as somebody ill-willed would."""
    (folder / name).write_bytes(data)
    task = json.loads((folder / "task.json").read_text("utf-8"))
    task["files"][name] = {"sha256": sha256(data), "bytes": len(data)}
    (folder / "task.json").write_text(json.dumps(task), "utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def safetensors_header(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_what_is_written_is_read_back(tmp_path: Path, manifest: Manifest) -> None:
    head = {"classifier.weight": torch.randn(3, 8).to(torch.bfloat16)}
    written = write(tmp_path / "x", replace(manifest, head="file"), head=head)
    artifact = read_artifact(tmp_path / "x")
    assert artifact.manifest == written == read_manifest(tmp_path / "x")
    assert artifact.adapter_config == {"r": 4, "peft_type": "LORA"}
    assert torch.equal(artifact.adapter_model["a"], A)
    assert artifact.head is not None
    assert torch.equal(artifact.head["classifier.weight"], head["classifier.weight"])


def test_the_manifest_returned_lists_every_other_file(tmp_path: Path, manifest: Manifest) -> None:
    written = write(tmp_path / "x", manifest)
    assert set(written.files) == set(contents(tmp_path / "x")) - {"task.json"}
    assert set(written.files) < set(FORMAT_FILES)


def test_equal_tensors_give_equal_bytes_in_any_order_and_layout(tmp_path: Path, manifest: Manifest) -> None:
    both = torch.cat([A, B.T])  # its halves share memory
    write(tmp_path / "x", manifest)
    write(tmp_path / "y", manifest, adapter_model={"b": both[4:].T, "a": both[:4]})
    assert contents(tmp_path / "x") == contents(tmp_path / "y")


def test_no_history_makes_no_history_file(tmp_path: Path, manifest: Manifest) -> None:
    write(tmp_path / "x", manifest, history=[])
    assert "history.jsonl" not in contents(tmp_path / "x")
    read_artifact(tmp_path / "x")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"adapter_model": {"a": A / 0}}, r"adapter_model.safetensors: 'a' has numbers that are not finite"),
        ({"adapter_model": {"a": A.long()}}, "'a' is int64, expected one of float16"),
        ({"adapter_config": {"x": float("nan")}}, r"adapter_config.json has the number nan"),
        ({"adapter_config": {"x": {1, 2}}}, r"adapter_config.json has a set, which is not JSON"),
        ({"adapter_config": {1: 2}}, "has the key 1, which is not a string"),
        ({"history": [3]}, r"history.jsonl must be a JSON object"),
        ({"card": "\ud800"}, r"README.md has half a surrogate pair"),
        ({"card": "x" * (strict_json.MAX_BYTES + 1)}, r"README.md would have 16777217 bytes"),
        ({"head": {"w": A}}, r"head 'peft', which does not allow head.safetensors"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    tmp_path: Path, manifest: Manifest, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ArtifactError, match=why):
        write(tmp_path / "x", manifest, **changes)
    assert contents(tmp_path / "x") == {}


def test_a_faulty_manifest_is_not_written(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="created must be a time in UTC"):
        write(tmp_path / "x", replace(manifest, created="now"))
    with pytest.raises(ArtifactError, match=r"task\.json has the number inf"):
        write(tmp_path / "y", replace(manifest, metrics={"dev": {"loss": float("inf")}}))


def test_a_folder_with_something_in_it_is_not_written_to(folder: Path, manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="an existing empty folder was expected"):
        write_artifact(folder, manifest, ArtifactContent({}, {}))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_of_any_file_is_noticed(
    sample: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped") / "x"
    shutil.copytree(sample, folder)
    path = folder / data.draw(st.sampled_from(sorted(path.name for path in sample.iterdir())))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        after = read_artifact(folder)
    except ArtifactError:
        return
    # task.json has no hash of itself; it may now have other white space, or another value that is as sound.
    assert path.name == "task.json"
    assert after.manifest.files == read_artifact(sample).manifest.files


def test_a_changed_file_is_told_with_both_hashes(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\x01")
    with pytest.raises(
        HashMismatch, match=r"adapter_model.safetensors has sha256 .* task.json says"
    ) as caught:
        read_artifact(folder)
    assert caught.value.file == "adapter_model.safetensors"


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "README.md", "history.jsonl"])
def test_a_truncated_file_is_told_with_both_sizes(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=rf"{name} has \d+ bytes, task.json says \d+"):
        read_artifact(folder)


@pytest.mark.parametrize("name", [name for name in FORMAT_FILES if name != "training.png"])
def test_a_missing_file_is_named(folder: Path, manifest: Manifest, name: str) -> None:
    if name == "head.safetensors":
        shutil.rmtree(folder)
        write(folder, replace(manifest, head="file"), head={"w": A})
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        read_artifact(folder)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read as a folder"):
        read_artifact(tmp_path / "none")
    with pytest.raises(ArtifactError, match=r"task\.json is missing"):
        read_manifest(tmp_path / "none")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "task.json.new", "code.py"])
def test_a_file_beside_the_format_is_refused(folder: Path, name: str) -> None:
    (folder / name).touch()
    with pytest.raises(ArtifactError, match=f"'{name}' is not a file of an adapter"):
        read_artifact(folder)


@pytest.mark.parametrize(
    "leave", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo]
)
def test_what_begins_with_a_dot_is_left_alone(folder: Path, leave: Callable[[Path], None]) -> None:
    before = read_artifact(folder)
    leave(folder / ".DS_Store")
    found = read_artifact(folder)
    assert (found.id, found.manifest.files) == (before.id, before.manifest.files)


def test_a_file_that_begins_with_a_dot_cannot_be_listed(folder: Path) -> None:
    spoil(folder, ".hidden", b"code")
    with pytest.raises(
        ArtifactError, match=r"files has the key '\.hidden', which must be the plain name of a file"
    ):
        read_artifact(folder)


def test_a_file_that_task_json_does_not_list_is_refused(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(save({"w": A}))
    with pytest.raises(ArtifactError, match=r"head.safetensors is not listed in task.json"):
        read_artifact(folder)


def test_a_link_is_refused_even_to_the_right_content(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").rename(tmp_path / "elsewhere")
    (folder / "README.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"README.md is not a regular file"):
        read_artifact(folder)


def test_a_link_in_place_of_the_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "task.json").rename(tmp_path / "elsewhere")
    (folder / "task.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"task\.json is a link"):
        read_manifest(folder)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused(folder: Path, make: Callable[[Path], None]) -> None:
    for name in ("README.md", "task.json"):
        (folder / name).unlink()
        make(folder / name)
    with pytest.raises(ArtifactError, match=r"README.md is not a regular file"):
        read_artifact(folder)
    with pytest.raises(ArtifactError, match=r"task\.json is not a regular file"):
        read_manifest(folder)


class Bomb:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


def test_a_pickle_named_safetensors_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    spoil(folder, "adapter_model.safetensors", pickle.dumps(Bomb(tmp_path / "trace")))
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors is not a safetensors file"):
        read_artifact(folder)
    assert not (tmp_path / "trace").exists()


def test_a_file_of_torch_save_named_safetensors_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"a": A}, tmp_path / "x.pt")
    spoil(folder, "adapter_model.safetensors", (tmp_path / "x.pt").read_bytes())
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors is not a safetensors file"):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.tensor([1.0, float("nan")]), "'w' has numbers that are not finite"),
        (torch.tensor([float("-inf")], dtype=torch.float16), "'w' has numbers that are not finite"),
        (torch.tensor([1]), "'w' is I64, expected one of float16, bfloat16, float32, float64"),
        (torch.tensor([True]), "'w' is BOOL"),
        (torch.tensor([1j]), "'w' is C64"),
        (torch.tensor([1.0]).to(torch.float8_e4m3fn), "'w' is F8_E4M3"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(folder: Path, tensor: Tensor, why: str) -> None:
    spoil(folder, "adapter_model.safetensors", save({"w": tensor}))
    with pytest.raises(ArtifactError, match=rf"adapter_model.safetensors: {why}"):
        read_artifact(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**60) + b"{}",
        safetensors_header({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, b"\0" * 4),
        safetensors_header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 4),
        safetensors_header({"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    ],
    ids=["empty", "huge header", "huge shape", "short data", "unknown type"],
)
def test_a_lying_safetensors_header_is_refused(folder: Path, data: bytes) -> None:
    spoil(folder, "adapter_model.safetensors", data)
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors is not a safetensors file"):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[" * 100_000, "is nested deeper than 64 levels"),
        (b'{"x": ' * 70 + b"1" + b"}" * 70, "is nested deeper than 64 levels"),
        (b'{"x": NaN}', "has the number NaN"),
        (b'{"x": 1, "x": 2}', "has the key 'x' twice"),
        (b"[]", "must be a JSON object, not list"),
        (b'{"x": "\xff"}', "is not UTF-8"),
        (b"{}" + b" " * strict_json.MAX_BYTES, "has 16777218 bytes, at most 16777216 are allowed"),
    ],
    ids=["deep array", "deep object", "NaN", "twice", "array", "latin-1", "huge"],
)
@pytest.mark.parametrize("name", ["adapter_config.json", "history.jsonl"])
def test_unsound_json_is_refused_also_when_its_hash_is_right(
    folder: Path, name: str, data: bytes, why: str
) -> None:
    spoil(folder, name, data)
    with pytest.raises(ArtifactError, match=f"{name} {why}"):
        read_artifact(folder)


def test_a_huge_task_json_is_refused_unread(folder: Path) -> None:
    with (folder / "task.json").open("wb") as file:
        file.truncate(2**40)  # a hole: no disk is used
    with pytest.raises(ArtifactError, match=r"task\.json has 1099511627776 bytes"):
        read_manifest(folder)


def test_a_card_in_another_encoding_is_refused(folder: Path) -> None:
    spoil(folder, "README.md", b"caf\xe9")
    with pytest.raises(ArtifactError, match=r"README.md is not UTF-8 at byte 3"):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"model.bin": {"sha256": "a" * 64, "bytes": 1}}, r"lists model.bin, which the format does not have"),
        ({}, r"does not list adapter_config.json, adapter_model.safetensors, README.md"),
    ],
)
def test_a_list_of_files_that_is_not_the_formats_is_refused(
    folder: Path, manifest: Manifest, files: object, why: str
) -> None:
    value = {**manifest.to_json(), "files": files}
    (folder / "task.json").write_text(json.dumps(value), "utf-8")
    with pytest.raises(ArtifactError, match=why):
        read_artifact(folder)


def test_reading_manifests_and_listing_the_store_loads_no_torch(folder: Path) -> None:
    code = (
        "import sys, pathlib, onetrunk.adapters.store.references, onetrunk.adapters.store.store as s\n"
        "from onetrunk.adapters.format.artifact import read_manifest\n"
        f"read_manifest(pathlib.Path({str(folder)!r}))\n"
        f"s.Store(pathlib.Path({str(folder)!r})).versions()\n"
        "assert not {'torch', 'numpy', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
