"""Import of plain PEFT adapters: a folder becomes an artifact in the store.

The folder is untrusted: only `FILES` are read, only regular files of limited size, and never a pickle. The stored
adapter gives the same logits as PEFT; features of PEFT that are not supported are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.artifact import CARD, CONFIG, MAX_WEIGHTS, MODEL, read_object, read_tensors
from onetrunk.adapters.format.peft_format import read_peft, unknown_options, with_uniform_rank
from onetrunk.adapters.methods.lora import Lora, Target
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import TaskSpecError, UnsupportedBackbone, UsageError
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.adapter_io import check_shapes, load_head, probe_logits
from onetrunk.core.interop.import_head import head_weights, label_count
from onetrunk.core.interop.import_labels import MODEL_CONFIG, find_labels
from onetrunk.core.tasks import HeadFormat, JSONObject, TaskSpec
from onetrunk.core.tasks.guarded_calls import json_of
from onetrunk.core.training.manifest_builder import Destination, bare_manifest, store_adapter
from onetrunk.core.trunk.build import trunk_of

FILES = (CONFIG, MODEL, MODEL_CONFIG, CARD)
"""The files of a plain PEFT adapter that are read. The first two are required."""

PICKLE = "adapter_model.bin"
"""The file of old versions of PEFT, which is never read."""
_TASK_TYPES = {"token": "TOKEN_CLS", "text": "SEQ_CLS"}
_RECORDED = ("peft_version", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout")


def base_of(folder: Path) -> tuple[str | None, str | None]:
    """Return name and revision of the backbone in `adapter_config.json`; None for a value that is missing.

    The name may be a path on another machine. Raises ArtifactError.
    """
    config = read_object(folder, CONFIG)
    name, revision = (config.get(key) for key in ("base_model_name_or_path", "revision"))
    return (
        name if isinstance(name, str) and name else None,
        revision if isinstance(revision, str) and revision else None,
    )


def import_peft(
    folder: Path,
    spec: TaskSpec,
    backbone: Backbone,
    destination: Destination,
    labels: Sequence[str] | None = None,
) -> StoredVersion:
    """Store the plain PEFT adapter in `folder` at `destination`, as an adapter for the task `spec`.

    backbone: the backbone that it was trained on.
    labels: in the order of the logits; None to look them up (see `find_labels`).

    Raises ArtifactError (files, options, keys), AdapterRejected (shapes), UnsupportedBackbone and UsageError
    (labels or task do not fit); then the store has not changed.
    """
    config, name = read_object(folder, CONFIG), destination.name
    _check_task(spec, config, backbone)
    if unknown := unknown_options(config):
        raise ArtifactError(
            folder,
            f"{CONFIG} has unknown options: {', '.join(unknown)}; upgrade onetrunk and peft",
        )
    tensors = _tensors(folder)
    prefix = f"{backbone.family.prefix}."
    lora, rest = read_peft(folder, config, tensors, backbone.family.layout, prefix)
    _check_updates(folder, name, config, lora, backbone)
    found = find_labels(folder, spec, label_count(folder, rest), labels, backbone.config)
    head = build_head(spec, backbone, found, "cls")
    if HeadFormat.of(head).task_type is None:
        raise UsageError(
            f"only the plugin of task {spec.name!r} defines its head, so a plain PEFT adapter cannot have it; "
            "train one"
        )
    load_head(name, head, head_weights(folder, config, rest, head, backbone))
    adapter = Adapter(
        ref=name,
        spec=spec,
        labels=found,
        pooling="cls",
        lora=with_uniform_rank(lora),
        head=head.requires_grad_(False).eval(),
        settings={},
    )
    _check_answers(adapter, backbone)
    trained = sum(tensor.numel() for tensor in tensors.values())
    manifest = bare_manifest(destination.host, adapter, backbone, trained)
    manifest = replace(manifest, training={"imported": _training_record(config)})
    return store_adapter(destination, adapter, backbone, manifest, dropout=_dropout(config))


def _check_task(spec: TaskSpec, config: JSONObject, backbone: Backbone) -> None:
    """Raise UsageError for another PEFT task type, UnsupportedBackbone if its heads are not supported."""
    needed, found = _TASK_TYPES[spec.level], config.get("task_type")
    if found not in (None, needed):
        raise UsageError(
            f"the adapter's task_type is {found!r:.60}, task {spec.name!r} needs {needed}; name a task that fits"
        )
    if backbone.family.style == "plain":
        raise UnsupportedBackbone(
            backbone.name,
            f"the classification heads of {backbone.family.model_type} in transformers are not supported, so a "
            "plain PEFT adapter cannot be imported with its head; train one",
        )


def _tensors(folder: Path) -> dict[str, Tensor]:
    if not (folder / MODEL).exists() and (folder / PICKLE).exists():
        raise ArtifactError(
            folder,
            f"{MODEL} is missing; {PICKLE} is a pickle, which can run code and is never read; if you trust it, "
            "load it with PEFT and save it again",
        )
    return read_tensors(folder, MODEL)


def _check_updates(folder: Path, name: str, config: JSONObject, lora: Lora, backbone: Backbone) -> None:
    """Raise ArtifactError unless the updates match `config`, fit the backbone and are not too large."""
    if not lora.updates:
        raise ArtifactError(
            folder,
            f"{MODEL} has no LoRA weights of a {backbone.family.model_type} encoder below "
            f"{backbone.family.prefix!r}; give the backbone that it was trained on",
        )
    check_shapes(name, lora, backbone)
    if missing := sorted(_targeted(config, backbone) - lora.updates.keys()):
        layer, module = missing[0]
        raise ArtifactError(
            folder,
            f"{CONFIG} targets layer {layer} {module}, but {MODEL} has no update of it; the file is incomplete, or "
            "it was trained on another backbone",
        )
    rank = max(update.a.shape[0] for update in lora.updates.values())
    width = sum(update.a.shape[1] + update.b.shape[0] for update in lora.updates.values())
    if 4 * rank * width > MAX_WEIGHTS:
        raise ArtifactError(
            folder,
            f"the updates have {4 * rank * width} bytes at their highest rank, {rank}; at most {MAX_WEIGHTS} are "
            "allowed",
        )


def _targeted(config: JSONObject, backbone: Backbone) -> set[Target]:
    """Return the linear modules that a plain list of target_modules means to PEFT; none for other forms."""
    names = config.get("target_modules")
    if names == "all-linear":
        return set(backbone.linear_shapes)
    limited = any(config.get(key) not in (None, []) for key in ("layers_to_transform", "exclude_modules"))
    if limited or not isinstance(names, list):
        return set()
    layout, prefix = backbone.family.layout, backbone.family.prefix
    paths = {target: f".{prefix}.{layout.path(*target)}" for target in backbone.linear_shapes}
    return {target for target, path in paths.items() if any(path.endswith(f".{name}") for name in names)}


def _check_answers(adapter: Adapter, backbone: Backbone) -> None:
    """Raise UsageError if the task cannot decode the logits, for example if the labels are not IOB2 tags."""
    exact = replace(adapter, lora=adapter.lora.to(backbone.device, torch.float32))
    texts = adapter.spec.probe
    logits = probe_logits(exact, trunk_of(backbone, torch.float32), backbone, texts)
    for text, own in zip(texts, logits, strict=True):
        try:
            json_of(adapter.spec, "decode", adapter.spec.unlabelled(text), own, adapter.labels, {})
        except TaskSpecError as error:
            raise UsageError(f"the labels {', '.join(adapter.labels)[:200]} do not fit: {error}") from error


def _training_record(config: Mapping[str, Any]) -> JSONObject:
    """Return the options of PEFT's configuration that describe the training, without paths."""
    return {"by": "peft", **{key: config[key] for key in _RECORDED if config.get(key)}}


def _dropout(config: JSONObject) -> float:
    value = config.get("lora_dropout")
    return float(value) if isinstance(value, int | float) and 0 <= value < 1 else 0.0
