"""Adapters for others: as a plain PEFT folder, merged into a model of transformers, or as ONNX.

What is exported is read back by the tools it is for and compared with our own logits before its folder appears.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.artifact import CARD, CONFIG, HEAD, MODEL, Artifact
from onetrunk.adapters.format.files import sync_files, sync_folder, write_new
from onetrunk.adapters.methods.target_modules import MODELS
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.transformers_encoder import build_model
from onetrunk.core.errors import ExportError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.interop.export_readme import readme
from onetrunk.core.interop.export_verify import Run, compare
from onetrunk.core.interop.merging import in_model, labelled_config, merged_model, model_with_head
from onetrunk.core.interop.onnx_graph import check_installed, open_onnx, write_onnx
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.trunk.build import trunk_of

Format = Literal["peft", "merged", "onnx"]
GRAPH = "model.onnx"
LABELS = "labels.json"
TOLERANCE = 1e-4
"""Largest difference between the logits of an export and our own."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported. files: their bytes by name; difference: the largest of logits, over so many `texts`."""

    folder: Path
    files: dict[str, int]
    texts: int
    difference: float


def export_adapter(
    ref: str,
    artifact: Artifact,
    spec: TaskSpec,
    backbone: Backbone,
    form: Format,
    folder: Path,
    tell: Callable[[str], object] = lambda _step: None,
) -> Exported:
    """Export a verified artifact to `folder`, which must be empty or not there yet; it appears whole or not at all.

    backbone: on the CPU, in float32. tell: hears of each step as it begins. Raises ExportError (folder, head, other
    logits than ours), UsageError (ONNX is not installed) and what `load_adapter` raises.
    """
    if form == "onnx":
        check_installed()
    target = _target(folder)
    adapter = load_adapter(ref, artifact, spec, backbone, trunk_of(backbone, torch.float32))
    with _aside(target) as aside:
        tell(f"writing {form}")
        run = _WRITERS[form](adapter, artifact, backbone, aside)
        tell("checking its logits against ours")
        texts, difference = compare(adapter, backbone, run, aside)
        _check(form, difference)
        about = readme(ref, artifact, adapter, form, texts, difference)
        write_new(aside / CARD, about.encode())
        usual = stat.S_IMODE((aside / CARD).stat().st_mode)
        for path in aside.iterdir():
            path.chmod(usual)  # transformers keeps weights to their owner
        files = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
    return Exported(target, files, texts, difference)


def _target(folder: Path) -> Path:
    """Return the real path of `folder`. Raises ExportError where nothing can be put, or something is."""
    target = Path(os.path.realpath(folder))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError(f"{folder} is not empty; name a folder that is not there yet")
    if not target.parent.is_dir():
        raise ExportError(f"there is no folder {folder.parent}; make it first, or name another")
    return target


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Give a new folder that becomes `target` when the block ends without an error, and vanishes else."""
    aside = target.with_name(f".{target.name[:60]}.{secrets.token_hex(4)}.part")
    try:
        try:
            aside.mkdir()
            yield aside
            sync_files(aside)
            if target.exists():
                target.rmdir()  # not every system renames onto a folder, be it empty
            aside.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise ExportError(
                f"cannot write {target} ({error.strerror or error}); name another folder"
            ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_peft(adapter: Adapter, artifact: Artifact, backbone: Backbone, aside: Path) -> Run:
    """Copy what PEFT reads of the artifact, as it is; return the base model with it, as PEFT loads it."""
    from peft import PeftModel

    for name in (CONFIG, MODEL, HEAD):
        if name in artifact.manifest.files:
            write_new(aside / name, (artifact.path / name).read_bytes())
    _write_labels(adapter, aside)
    kind = adapter.format.task_type
    base: Any
    if kind is None:
        base = build_model(backbone.config, backbone.read_tensors(), torch.device("cpu"))
    else:
        labelled_config(backbone, adapter.labels).save_pretrained(aside)
        base = model_with_head(backbone, adapter.labels, kind, in_model(backbone, backbone.read_tensors()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT misses in the files shows in the logits
        return _as_run(PeftModel.from_pretrained(base, str(aside)).eval())


def _write_merged(adapter: Adapter, artifact: Artifact, backbone: Backbone, aside: Path) -> Run:  # noqa: ARG001
    """Write a model of transformers with its tokenizer; return it as transformers loads it."""
    import transformers

    model, kind = merged_model(adapter, backbone), adapter.format.task_type
    weights = model.state_dict()
    if kind is None:
        _write_head(adapter, aside)
        if backbone.pooler is not None:
            weights |= dict(zip(("pooler.dense.weight", "pooler.dense.bias"), backbone.pooler, strict=True))
    model.save_pretrained(aside, state_dict=weights)
    backbone.read_tokenizer().save_pretrained(aside)
    _write_labels(adapter, aside)
    loader = getattr(transformers, MODELS[adapter.format.stored_type])
    loaded = loader.from_pretrained(aside, use_safetensors=True, dtype=torch.float32, trust_remote_code=False)
    return _as_run(loaded.eval())


def _write_onnx(adapter: Adapter, artifact: Artifact, backbone: Backbone, aside: Path) -> Run:  # noqa: ARG001
    """Write the graph with the tokenizer; return it as onnxruntime runs it."""
    write_onnx(adapter, backbone, aside / GRAPH)
    backbone.read_tokenizer().save_pretrained(aside)
    _write_labels(adapter, aside)
    return open_onnx(aside / GRAPH)


_WRITERS: dict[Format, Callable[[Adapter, Artifact, Backbone, Path], Run]] = {
    "peft": _write_peft,
    "merged": _write_merged,
    "onnx": _write_onnx,
}


def _write_labels(adapter: Adapter, aside: Path) -> None:
    """Write the labels in the order of the logits, and what the task's decoder was set to."""
    about = {"task": adapter.spec.name, "labels": list(adapter.labels), "settings": adapter.settings}
    write_new(aside / LABELS, strict_json.dump(about))


def _write_head(adapter: Adapter, aside: Path) -> None:
    from safetensors.torch import save

    weights = {key: tensor.contiguous() for key, tensor in adapter.head.state_dict().items()}
    write_new(aside / HEAD, save(weights, metadata={"format": "pt"}))


def _as_run(model: Any) -> Run:
    def run(ids: Tensor, mask: Tensor) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            found = model(input_ids=ids, attention_mask=mask)
        answer: np.ndarray[Any, Any] = found[0].numpy()
        return answer

    return run


def _check(form: Format, difference: float) -> None:
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the logits of the export ({form}) differ from ours by {difference:.3g}, at most {TOLERANCE:g} is "
            "right; nothing was exported"
        )
