"""Export of an adapter: as a plain PEFT adapter, as a transformers model with the adapter merged in, or as ONNX.

Before the folder of an export appears, PEFT, transformers or ONNX Runtime loads the export, and its logits are
compared with OneTrunk's.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.adapters.card.markup import code
from onetrunk.adapters.card.samples import GRAPH, LABELS, CodeSample, ExportFormat
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.artifact import CARD, CONFIG, HEAD, MODEL, TASK, Artifact
from onetrunk.adapters.format.files import move_folder, write_new
from onetrunk.adapters.methods.target_modules import MODELS
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import ExportError
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.interop.export_verify import Run, compare
from onetrunk.core.interop.merging import labelled_config, merged_weights, transformers_model
from onetrunk.core.interop.onnx_graph import check_installed, open_onnx, write_onnx
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.trunk.build import trunk_of

TOLERANCE = 1e-4
"""The largest allowed difference between a logit of an export and OneTrunk's."""

_INTRODUCTION = {
    "peft": "A plain PEFT adapter for",
    "merged": "A transformers model: the adapter is merged into the weights of",
    "onnx": "An ONNX graph: the adapter is merged into the weights of",
}
_SEPARATE_HEAD = {
    "peft": "PEFT's format cannot hold this adapter's head. The PEFT adapter is for the encoder without a head",
    "merged": "transformers has no model with this adapter's head. The model is the encoder without a head",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    files: the size of each file in bytes, by name.
    texts: the number of texts for which the logits were compared.
    difference: the largest difference between a logit of the export and OneTrunk's.
    """

    folder: Path
    files: dict[str, int]
    texts: int
    difference: float


def export_adapter(
    stored: StoredVersion,
    spec: TaskSpec,
    backbone: Backbone,
    form: ExportFormat,
    folder: Path,
    on_step: Callable[[str], object] = lambda _step: None,
) -> Exported:
    """Export a stored adapter to `folder`, which must be empty or missing. After an error, `folder` is unchanged.

    spec: the task of the adapter.
    backbone: the backbone of the adapter, on the CPU in float32.
    form: `peft`, `merged` or `onnx`.
    on_step: called with a description of each step before the step begins.

    Raises ExportError if the folder or the head cannot be used, or if the logits differ from OneTrunk's by more
    than `TOLERANCE`; UsageError if ONNX is not installed; and the errors of `load_adapter`.
    """
    if form == "onnx":
        check_installed()
    target, artifact = _target(folder), stored.read()
    adapter = load_adapter(stored.ref, artifact, spec, backbone, trunk_of(backbone, torch.float32))
    with _new_folder(target) as aside:
        on_step(f"writing {form}")
        run = _WRITERS[form](adapter, artifact, backbone, aside)
        about = {"task": spec.name, "labels": list(adapter.labels), "settings": adapter.settings}
        write_new(aside / LABELS, strict_json.dump(about))
        on_step("comparing its logits with OneTrunk's")
        texts, difference = compare(adapter, backbone, run, aside)
        if not difference <= TOLERANCE:  # True for NaN, too
            raise ExportError(
                f"the logits of the export ({form}) differ from OneTrunk's by {difference:.3g}; expected at most "
                f"{TOLERANCE:g}; nothing was exported"
            )
        write_new(aside / CARD, _readme(artifact, adapter, form, texts, difference).encode())
        usual = stat.S_IMODE((aside / CARD).stat().st_mode)
        for path in aside.iterdir():
            path.chmod(usual)  # transformers writes weights that only their owner can read
        files = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
    return Exported(target, files, texts, difference)


def _target(folder: Path) -> Path:
    """Return the real path of `folder`. Raises ExportError if it is not empty or its parent is missing."""
    target = Path(os.path.realpath(folder))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError(f"{folder} is not empty; name a new folder")
    if not target.parent.is_dir():
        raise ExportError(f"the folder {folder.parent} does not exist; create it, or name another folder")
    return target


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder. It becomes `target` at the end of the block; after an error it is deleted."""
    try:
        with TemporaryDirectory(
            prefix=f".{target.name[:60]}.", suffix=".part", dir=target.parent, ignore_cleanup_errors=True
        ) as aside:
            folder = Path(aside) / "export"
            folder.mkdir()
            yield folder
            move_folder(folder, target)
    except OSError as error:
        raise ExportError(
            f"cannot write {target} ({error.strerror or error}); name another folder"
        ) from error


def _write_peft(adapter: Adapter, artifact: Artifact, backbone: Backbone, aside: Path) -> Run:
    """Copy the files of the artifact that PEFT reads, and return a function that runs them with PEFT."""
    from peft import PeftModel

    for name in (CONFIG, MODEL, HEAD):
        if name in artifact.manifest.files:
            write_new(aside / name, (artifact.path / name).read_bytes())
    if adapter.format.task_type is not None:
        labelled_config(backbone, adapter.labels).save_pretrained(aside)
    base = transformers_model(adapter, backbone, backbone.read_tensors())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns about missing weights, which the comparison finds anyway
        return _as_run(PeftModel.from_pretrained(base, str(aside)).eval())


def _write_merged(adapter: Adapter, artifact: Artifact, backbone: Backbone, aside: Path) -> Run:  # noqa: ARG001
    """Write a transformers model with its tokenizer, and return a function that runs the model."""
    import transformers

    model = transformers_model(adapter, backbone, merged_weights(backbone, adapter.lora), adapter.head)
    weights = model.state_dict()
    if adapter.format.task_type is None:
        from safetensors.torch import save

        head = {key: tensor.contiguous() for key, tensor in adapter.head.state_dict().items()}
        write_new(aside / HEAD, save(head, metadata={"format": "pt"}))
        if backbone.pooler is not None:
            weights |= dict(zip(("pooler.dense.weight", "pooler.dense.bias"), backbone.pooler, strict=True))
    model.save_pretrained(aside, state_dict=weights)
    backbone.read_tokenizer().save_pretrained(aside)
    loader = getattr(transformers, MODELS[adapter.format.stored_type])
    loaded = loader.from_pretrained(aside, use_safetensors=True, dtype=torch.float32, trust_remote_code=False)
    return _as_run(loaded.eval())


def _write_onnx(adapter: Adapter, artifact: Artifact, backbone: Backbone, aside: Path) -> Run:  # noqa: ARG001
    """Write the ONNX graph and the tokenizer, and return a function that runs the graph."""
    write_onnx(adapter, backbone, aside / GRAPH)
    backbone.read_tokenizer().save_pretrained(aside)
    return open_onnx(aside / GRAPH)


_WRITERS: dict[ExportFormat, Callable[[Adapter, Artifact, Backbone, Path], Run]] = {
    "peft": _write_peft,
    "merged": _write_merged,
    "onnx": _write_onnx,
}


def _as_run(model: Any) -> Run:
    def run(ids: Tensor, mask: Tensor) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            logits: np.ndarray[Any, Any] = model(input_ids=ids, attention_mask=mask)[0].numpy()
        return logits

    return run


def _readme(artifact: Artifact, adapter: Adapter, form: ExportFormat, texts: int, difference: float) -> str:
    """Return the content of README.md, which describes the files and shows how to use them."""
    backbone = artifact.manifest.backbone
    revision = "" if backbone.revision is None else f" at revision {code(backbone.revision)}"
    settings = ", and the settings of the task's decoder as `settings`" if adapter.settings else ""
    separate = form != "onnx" and adapter.format.task_type is None
    parts = [
        f"# {adapter.ref}",
        f"{_INTRODUCTION[form]} {code(backbone.name)}{revision}. Exported by OneTrunk {version('onetrunk')} from "
        f"{code(adapter.ref)}, an adapter for the task {code(adapter.spec.name)}. The sha256 of its `{TASK}` is "
        f"`{artifact.id}`.",
        *([f"{_SEPARATE_HEAD[form]}; `{HEAD}` has the weights of the head."] if separate else []),
        f"`{LABELS}` has the labels in the order of the logits{settings}.",
        _usage(artifact, adapter, form),
        f"For {texts} texts, each alone and all in one batch, the logits differ from OneTrunk's by at most "
        f"{difference:.1e}.",
    ]
    return "\n\n".join(parts) + "\n"


def _usage(artifact: Artifact, adapter: Adapter, form: ExportFormat) -> str:
    recipe = adapter.format.recipe
    if recipe is None:
        return f"Only the task's plugin defines how the weights in `{HEAD}` are used."
    sample = CodeSample(recipe, artifact.manifest.backbone, form, labels_file=LABELS)
    words = " The row of a word is that of its first token." if adapter.spec.level == "token" else ""
    return f"For a string `text`:{words}\n\n```python\n{sample.code()}```"
