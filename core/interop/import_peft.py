"""Import of plain PEFT adapters: a folder becomes an artifact in the store.

The folder is untrusted: only `FILES` are read, only if they are regular files of limited size, and never a pickle.
The stored adapter gives the same logits as PEFT. An adapter that uses an unsupported feature of PEFT is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onetrunk.adapters.errors import ArtifactError, first_few
from onetrunk.adapters.format.artifact import CARD, CONFIG, MAX_WEIGHTS, MODEL, read_object, read_tensors
from onetrunk.adapters.format.peft_format import read_peft, unknown_options, with_uniform_rank
from onetrunk.adapters.format.peft_scales import Scales
from onetrunk.adapters.methods.lora import Lora, Target
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import TaskSpecError, UnsupportedBackbone, UsageError
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.adapter_io import check_shapes, load_head, name_in_model, probe_logits
from onetrunk.core.inference.logits import encode_examples, with_encoded_words
from onetrunk.core.interop.import_labels import MODEL_CONFIG, find_labels
from onetrunk.core.interop.import_problem import check_problem, problem_type
from onetrunk.core.interop.import_tokenizer import TOKENIZER_FILES, check_tokenizer
from onetrunk.core.interop.merging import merge_update
from onetrunk.core.tasks import HeadFormat, JSONObject, TaskSpec
from onetrunk.core.tasks.guarded_calls import json_of
from onetrunk.core.training.manifest_builder import Destination, bare_manifest, store_adapter
from onetrunk.core.trunk.build import trunk_of

FILES = (CONFIG, MODEL, MODEL_CONFIG, CARD, *TOKENIZER_FILES)
"""The files of a plain PEFT adapter that are read. The first two are required."""

PICKLE = "adapter_model.bin"
"""The weights in the format of old versions of PEFT, which is never read."""
_TASK_TYPES = {"token": "TOKEN_CLS", "text": "SEQ_CLS"}
_RECORDED = ("peft_version", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout")
_CLASSIFIERS = ("classifier.out_proj.weight", "classifier.weight")
_WITH_EMBEDDINGS = (
    "; tokens were added or their embeddings were trained: train it again without that, or merge it into its model "
    "with PEFT (merge_and_unload) and use that as a backbone"
)
_LORA = re.compile(r"(.+)\.lora_([AB])\.weight")


def base_of(folder: Path) -> tuple[str | None, str | None]:
    """Return the name and the revision of the backbone in `adapter_config.json`; None for a missing value.

    The name may be a path on another computer. Raises ArtifactError if the file is missing or not valid.
    """
    config = read_object(folder, CONFIG)
    values = (config.get(key) for key in ("base_model_name_or_path", "revision"))
    name, revision = (value if isinstance(value, str) and value else None for value in values)
    return name, revision


def import_peft(
    folder: Path,
    spec: TaskSpec,
    backbone: Backbone,
    destination: Destination,
    labels: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> StoredVersion:
    """Store the plain PEFT adapter in `folder` at `destination`, as an adapter for the task `spec`.

    backbone: the backbone that the adapter was trained on.
    labels: the labels in the order of the logits; None to look them up with `find_labels`.
    notes: gets what the user should know about the reading of the files.

    Raises ArtifactError for a file, an option or a weight that is missing or not supported, AdapterRejected for a
    wrong shape, UnsupportedBackbone, and UsageError if the labels or the task do not fit. Then the store has not
    changed.
    """
    adapter, config, trained = _read_adapter(folder, spec, backbone, destination.name, labels)
    problem, where = problem_type(folder, backbone.config, len(adapter.labels))
    _check_answers(adapter, backbone, problem, where)
    if problem is None and spec.level == "text" and notes is not None:
        notes.append(
            f"the files do not say whether a text can have several of the {len(adapter.labels)} labels; the task "
            f"{spec.name!r} decides how they are read"
        )
    manifest = bare_manifest(destination.host, adapter, backbone, trained)
    recorded = {key: config[key] for key in _RECORDED if config.get(key)}
    manifest = replace(manifest, training={"imported": {"by": "peft", **recorded}})
    dropout = config.get("lora_dropout")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        dropout = 0.0
    return store_adapter(destination, adapter, backbone, manifest, dropout=float(dropout))


def _read_adapter(
    folder: Path, spec: TaskSpec, backbone: Backbone, name: str, labels: Sequence[str] | None
) -> tuple[Adapter, JSONObject, int]:
    """Return the adapter in `folder`, its configuration, and the number of its trained parameters."""
    config = read_object(folder, CONFIG)
    _check_task(spec, config, backbone)
    if unknown := unknown_options(config):
        fault = f"{CONFIG} has unknown options: {', '.join(unknown)}; upgrade onetrunk and peft"
        raise ArtifactError(folder, fault)
    tensors = _tensors(folder)
    check_tokenizer(folder, backbone, spec.probe)
    lora, rest = read_peft(folder, config, tensors, backbone.family.layout, f"{backbone.family.prefix}.")
    _check_updates(folder, name, config, lora, backbone)
    found = find_labels(folder, spec, _label_count(folder, rest), labels, backbone.config)
    head = build_head(spec, backbone, found, "cls")
    if HeadFormat.of(head).task_type is None:
        raise UsageError(
            f"only the plugin of task {spec.name!r} defines its head, so a plain PEFT adapter cannot have this "
            "head; train an adapter with `adapters train`"
        )
    load_head(name, head, _head_weights(folder, config, rest, head, backbone))
    adapter = Adapter(
        ref=name,
        spec=spec,
        labels=found,
        pooling="cls",
        lora=with_uniform_rank(lora),
        head=head.requires_grad_(False).eval(),
        settings={},
    )
    return adapter, config, sum(tensor.numel() for tensor in tensors.values())


def _check_task(spec: TaskSpec, config: JSONObject, backbone: Backbone) -> None:
    """Raise UsageError if PEFT's task type is not that of `spec`, UnsupportedBackbone for unsupported heads."""
    needed, found = _TASK_TYPES[spec.level], config.get("task_type")
    if found not in (None, needed):
        raise UsageError(
            f"the adapter's task_type is {found!r:.60}, but task {spec.name!r} needs {needed}; give another --task"
        )
    if backbone.family.style == "plain":
        raise UnsupportedBackbone(
            backbone.name,
            f"the classification heads of {backbone.family.model_type} in transformers are not supported, so a "
            "plain PEFT adapter cannot be imported with its head; train an adapter with `adapters train`",
        )


def _tensors(folder: Path) -> dict[str, Tensor]:
    if not (folder / MODEL).exists() and (folder / PICKLE).exists():
        raise ArtifactError(
            folder,
            f"{MODEL} is missing; {PICKLE} is a pickle, which can run code and is never read; if you trust it, "
            "load the adapter with PEFT and save it again",
        )
    return read_tensors(folder, MODEL)


def _check_updates(folder: Path, name: str, config: JSONObject, lora: Lora, backbone: Backbone) -> None:
    """Raise ArtifactError unless the LoRA weights match `config`, fit the backbone and are not too large."""
    if not lora.updates:
        raise ArtifactError(
            folder,
            f"{MODEL} has no LoRA weights of a {backbone.family.model_type} encoder below "
            f"{backbone.family.prefix!r}; give the backbone that the adapter was trained on",
        )
    check_shapes(name, lora, backbone)
    if missing := sorted(_targeted(config, backbone) - lora.updates.keys()):
        layer, module = missing[0]
        raise ArtifactError(
            folder,
            f"{CONFIG} targets {module} of layer {layer}, but {MODEL} has no LoRA weights for it; the file is "
            "incomplete, or the adapter was trained on another backbone",
        )
    rank = max(update.a.shape[0] for update in lora.updates.values())
    width = sum(update.a.shape[1] + update.b.shape[0] for update in lora.updates.values())
    if 4 * rank * width > MAX_WEIGHTS:
        raise ArtifactError(
            folder,
            f"the LoRA weights have {4 * rank * width} bytes at their highest rank, {rank}; at most {MAX_WEIGHTS} "
            "bytes are allowed",
        )


def _targeted(config: JSONObject, backbone: Backbone) -> set[Target]:
    """Return the linear modules that `target_modules` means, if it is a list or `all-linear`; else none."""
    names = config.get("target_modules")
    if names == "all-linear":
        return set(backbone.linear_shapes)
    limited = any(config.get(key) not in (None, []) for key in ("layers_to_transform", "exclude_modules"))
    if limited or not isinstance(names, list):
        return set()
    layout, prefix = backbone.family.layout, backbone.family.prefix
    paths = {target: f".{prefix}.{layout.path(*target)}" for target in backbone.linear_shapes}
    return {target for target, path in paths.items() if any(path.endswith(f".{name}") for name in names)}


def _check_answers(adapter: Adapter, backbone: Backbone, problem: str | None, where: str) -> None:
    """Raise UsageError if the task cannot decode the logits, for example if the labels are not IOB2 tags.

    problem, where: from `problem_type`.
    """
    exact = replace(adapter, lora=adapter.lora.to(backbone.device, torch.float32))
    texts = adapter.spec.probe
    logits = probe_logits(exact, trunk_of(backbone, torch.float32), backbone, texts)
    examples = [adapter.spec.unlabelled(text) for text in texts]
    encoded = encode_examples(backbone.encoder, adapter.spec, examples)
    for example, own in zip(with_encoded_words(adapter.spec, examples, encoded), logits, strict=True):
        try:
            json_of(adapter.spec, "decode", example, own, adapter.labels, {})
        except TaskSpecError as error:
            raise UsageError(f"the labels {', '.join(adapter.labels)[:200]} do not fit: {error}") from error
    if adapter.spec.level == "text" or len(adapter.labels) == 1:
        check_problem(adapter, logits, problem, where, texts)


def _label_count(folder: Path, rest: Mapping[str, Tensor]) -> int:
    """Return the number of labels of the head. Raises ArtifactError if there is no classifier."""
    found = next((rest[key] for key in _CLASSIFIERS if key in rest), None)
    if found is None or found.ndim != 2:
        raise ArtifactError(
            folder,
            f"{MODEL} has no classifier, so the adapter cannot predict labels; train it with "
            "PEFT's task_type TOKEN_CLS or SEQ_CLS, or with modules_to_save=['classifier']",
        )
    return int(found.shape[0])


def _head_weights(
    folder: Path, config: Mapping[str, Any], rest: Mapping[str, Tensor], head: nn.Module, backbone: Backbone
) -> dict[str, Tensor]:
    """Return the weights for `head` by name, in float32, with LoRA weights of the head merged in.

    If PEFT has not saved a pooler, the pooler of the backbone is taken.
    rest: tensors by their names in the model that PEFT wraps, without the LoRA weights of the encoder.
    Raises ArtifactError for missing weights, and for weights that belong neither to the head nor to LoRA.
    """
    expected = head.state_dict()
    prefix = f"{backbone.family.prefix}."
    names = {name_in_model(key, backbone.family, prefix): key for key in expected}
    found: dict[str, Tensor] = {}
    pairs: dict[str, dict[str, Tensor]] = {}
    foreign = []
    for name, tensor in rest.items():
        match = _LORA.fullmatch(name)
        if name in names:
            found[names[name]] = tensor.float()
        elif match is not None and f"{match[1]}.weight" in names:
            pairs.setdefault(match[1], {})[match[2]] = tensor
        else:
            foreign.append(name)
    if foreign:
        raise ArtifactError(
            folder,
            f"{MODEL} has weights that belong neither to LoRA nor to the head: {first_few(foreign)}; the "
            f"{backbone.family.model_type} encoder is frozen, so other weights of it cannot be imported"
            + _WITH_EMBEDDINGS
            * any("embeddings" in name for name in foreign),
        )
    if backbone.pooler is not None:
        found = {key: expected[key].cpu() for name, key in names.items() if name != key} | found
    if missing := sorted(expected.keys() - found.keys()):
        raise ArtifactError(
            folder,
            f"{MODEL} lacks weights of the head: {first_few(missing)}; PEFT has not saved them; "
            f"train the adapter again with modules_to_save={sorted({key.partition('.')[0] for key in expected})}",
        )
    scales = Scales(folder, config)
    for path, pair in pairs.items():
        key = names[f"{path}.weight"]
        update, weight = scales.update(path, path, pair), found[key]
        shape = (update.b.shape[0], update.a.shape[1])
        if shape != tuple(weight.shape):
            fault = f"the LoRA weights of {path} are for {shape}, but its weight has {tuple(weight.shape)}"
            raise ArtifactError(folder, fault)
        found[key] = merge_update(weight, update)
    return found
