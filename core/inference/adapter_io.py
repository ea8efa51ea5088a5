"""Converts adapters to and from artifacts (folders with the files of an adapter), and checks them when they load.

An artifact has a probe: a few texts with the logits that the adapter gave when it was stored. A loaded adapter must
give the same logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.adapters.format.artifact import Artifact
from onetrunk.adapters.format.manifest import Probe
from onetrunk.adapters.format.peft_format import PeftOptions, peft_config, peft_tensors, read_peft
from onetrunk.adapters.methods.lora import Lora, LowRank
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.device import name_of
from onetrunk.core.backbones.families import Family
from onetrunk.core.errors import AdapterRejected, BackboneMismatch, TaskSpecError
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, encode_examples
from onetrunk.core.tasks import Example, HeadFormat, TaskSpec
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.build import trunk_of

PROBE_TOLERANCE = 1e-3
"""Largest root mean square error of the probe's logits in float32, relative to the largest logit (at least 1)."""
PROBE_MARGIN = 3.0
"""Largest error in bfloat16 and int8, relative to the error of a trunk with noise (docs/performance.md)."""
_DRAWS = 8
"""Largest number of trunks with noise that are tried before an adapter is rejected."""


def stored_form(
    adapter: Adapter, backbone: Backbone, dropout: float
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
    """Return the contents of adapter_config.json, adapter_model.safetensors and head.safetensors.

    A head that a model of transformers can have is stored in adapter_model.safetensors, as PEFT does it. Any other
    head is stored in head.safetensors, which is None otherwise.
    """
    task_type = adapter.format.task_type
    lora = adapter.lora if adapter.lora.updates else _no_change(backbone)
    weights = adapter.head.state_dict()
    prefix, inside = ("", {}) if task_type is None else (f"{backbone.family.prefix}.", weights)
    named = {name_in_model(key, backbone.family, prefix): tensor for key, tensor in inside.items()}
    layout = backbone.family.layout
    options = PeftOptions(
        task_type=adapter.format.stored_type,
        base_model=backbone.public_name,
        revision=backbone.revision,
        dropout=dropout,
        modules_to_save=sorted({key.partition(".")[0] for key in inside}),
    )
    head = {key: tensor.cpu().contiguous() for key, tensor in weights.items()} if task_type is None else None
    return peft_config(lora, layout, options), peft_tensors(lora, layout, prefix, named), head


def name_in_model(key: str, family: Family, prefix: str) -> str:
    """Return the name of a head's weight in transformers' model. In BERT the pooler is part of the encoder."""
    return prefix + key if family.pooler_inside and key.startswith("pooler.") else key


def _no_change(backbone: Backbone) -> Lora:
    """Return an update with B = 0, which changes nothing: an adapter in PEFT's format has at least one update."""
    target, (d_out, d_in) = next(
        (target, shape)
        for target, shape in backbone.linear_shapes.items()
        if target[0] == backbone.layers - 1
    )
    return Lora({target: LowRank(torch.zeros(1, d_in), torch.zeros(d_out, 1), 1.0)})


def record_probe(adapter: Adapter, backbone: Backbone) -> Probe:
    """Return the task's probe texts with the logits of this adapter, computed in float32."""
    exact = replace(adapter, lora=adapter.lora.to(backbone.device, torch.float32))
    logits = probe_logits(exact, trunk_of(backbone, torch.float32), backbone, adapter.spec.probe)
    return Probe(texts=adapter.spec.probe, logits=tuple(each.tolist() for each in logits))


def probe_logits(
    adapter: Adapter, trunk: Trunk, backbone: Backbone, texts: tuple[str, ...]
) -> list[np.ndarray[Any, Any]]:
    """Return the logits (units, labels) of each text."""
    encoded = encode_examples(backbone.encoder, adapter.spec, [Example(text) for text in texts])
    return compute_logits(trunk, [adapter], [LogitsRequest(each, 0) for each in encoded])


def load_adapter(
    ref: str,
    artifact: Artifact,
    spec: TaskSpec,
    backbone: Backbone,
    trunk: Trunk,
    place: Callable[[Lora, torch.device, torch.dtype], Lora] = Lora.to,
) -> Adapter:
    """Load an adapter from a verified artifact, and check its shapes, its head and its probe.

    ref: the version in messages, such as `ner@3`.
    place: copies the LoRA weights to a device in a dtype, and may change their layout in memory.
    Raises BackboneMismatch for another backbone or tokenizer, AdapterRejected if a check fails, ArtifactError for
    another format than PEFT's.
    """
    lora, weights = _weights(ref, artifact, backbone)
    task_type = artifact.adapter_config.get("task_type")
    manifest = artifact.manifest
    spec = _with_own_splitter(ref, spec, manifest.word_splitter or "")
    head = build_head(spec, backbone, manifest.labels, manifest.pooling or "cls", fresh=False)
    if (own := HeadFormat.of(head).stored_type) != task_type:
        raise AdapterRejected(
            ref,
            f"its head is stored as {task_type}, the task's head is {own}; the plugin has changed, use its old "
            "version or train the adapter again",
        )
    if manifest.level != spec.level:
        raise AdapterRejected(
            ref,
            f"task.json has level {manifest.level!r}, expected {spec.level!r}, the level of task {spec.name!r}",
        )
    load_head(ref, head, weights)
    adapter = Adapter(
        ref=ref,
        spec=spec,
        labels=manifest.labels,
        pooling=manifest.pooling or "cls",
        lora=place(lora, trunk.device, trunk.adapter_dtype),
        head=head.requires_grad_(False).eval(),
        settings=dict(manifest.settings),
    )
    _check_probe(adapter, manifest.probe, backbone, trunk)
    return adapter


def _with_own_splitter(ref: str, spec: TaskSpec, splitter: str) -> TaskSpec:
    """Return the task with the word splitter of the adapter. Raises AdapterRejected if the task lacks it."""
    own = spec.with_splitter(splitter)
    if own is None:
        known = ", ".join(map(repr, [spec.splitter, *spec.older_splits]))
        raise AdapterRejected(
            ref,
            f"it was trained with the word splitter {splitter!r}, task {spec.name!r} has {known}; upgrade the "
            "package of the task",
        )
    return own


def reload_lora(stored: StoredVersion, identity: str, backbone: Backbone) -> Lora:
    """Read the LoRA weights of an evicted adapter again; identity: the id of its artifact when it was loaded.

    Raises ArtifactError, and AdapterRejected if the artifact has changed since: the loaded head would not fit.
    """
    artifact = stored.read()
    if artifact.id != identity:
        raise AdapterRejected(stored.ref, f"{artifact.path} has changed since it was loaded; load it again")
    lora, _ = _weights(stored.ref, artifact, backbone)
    return lora


def _weights(ref: str, artifact: Artifact, backbone: Backbone) -> tuple[Lora, Mapping[str, Tensor]]:
    """Return the LoRA weights and the head's weights of an artifact. Raises as `load_adapter` does."""
    check_backbone(ref, artifact, backbone)
    prefix = "" if artifact.manifest.head == "file" else f"{backbone.family.prefix}."
    lora, rest = read_peft(
        artifact.path, artifact.adapter_config, artifact.adapter_model, backbone.family.layout, prefix
    )
    check_shapes(ref, lora, backbone)
    if artifact.head is not None and rest:
        raise AdapterRejected(
            ref, f"adapter_model.safetensors has {min(rest)!r}, expected LoRA weights of the encoder only"
        )
    head = artifact.head
    if head is None:
        head = {key.removeprefix(prefix): tensor for key, tensor in rest.items()}
    return (Lora({}) if artifact.manifest.method == "head" else lora), head


def check_backbone(ref: str, artifact: Artifact, backbone: Backbone) -> None:
    """Raise BackboneMismatch unless the adapter was trained on `backbone`, with the same tokenizer."""
    wanted = artifact.manifest.backbone
    if wanted.fingerprint != backbone.fingerprint:
        raise BackboneMismatch(
            backbone.name,
            f"adapter {ref} was trained on {wanted.name} with weights {wanted.fingerprint[:12]}…, the weights here "
            f"are {backbone.fingerprint[:12]}…; use that backbone, or train the adapter on this one",
        )
    if wanted.tokenizer != backbone.tokenizer_fingerprint:
        raise BackboneMismatch(
            backbone.name,
            f"adapter {ref} was trained with tokenizer {wanted.tokenizer[:12]}…, the tokenizer here is "
            f"{backbone.tokenizer_fingerprint[:12]}…; use the backbone with that tokenizer",
        )


def check_shapes(ref: str, lora: Lora, backbone: Backbone) -> None:
    """Raise AdapterRejected unless `backbone` has a linear layer of the right shape for each update of `lora`."""
    shapes = backbone.linear_shapes
    for (layer, module), update in lora.updates.items():
        shape = (update.b.shape[0], update.a.shape[1])
        expected = shapes.get((layer, module), "no such layer")
        if shape != expected:
            raise AdapterRejected(
                ref, f"the update of layer {layer} {module} has shape {shape}, the backbone has {expected}"
            )


def load_head(ref: str, head: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load `weights`, by name, into `head`. Raises AdapterRejected if names or shapes differ from the head's."""
    expected = {key: tuple(tensor.shape) for key, tensor in head.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    if expected != found:
        key = min(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise AdapterRejected(
            ref,
            f"head weight {key} has shape {found.get(key)}, expected {expected.get(key)} for its task and labels",
        )
    head.load_state_dict(dict(weights))


def _check_probe(adapter: Adapter, probe: Probe, backbone: Backbone, trunk: Trunk) -> None:
    """Raise AdapterRejected unless the probe's logits are the recorded ones, up to rounding.

    In bfloat16 and int8 the bound is measured, by trunks with additional noise as large as the error of the trunk.
    """

    def compute(computing: Trunk) -> list[np.ndarray[Any, Any]]:
        try:
            return probe_logits(adapter, computing, backbone, probe.texts)
        except (TaskSpecError, RuntimeError, ValueError, IndexError) as error:
            raise AdapterRejected(adapter.ref, f"its probe cannot be computed: {error}") from error

    found = compute(trunk)
    recorded = _recorded(adapter.ref, probe, found)
    floor = PROBE_TOLERANCE * max(1.0, *(float(np.abs(each).max(initial=0.0)) for each in recorded))
    worst, allowed, drawn = _distance(found, recorded), floor, []
    for seed in range(_DRAWS if trunk.error else 0):
        if worst <= allowed:
            break
        drawn.append(_distance(compute(trunk.with_noise(trunk.noise, seed)), found))
        allowed = floor + PROBE_MARGIN * float(np.sqrt(np.square(drawn).mean()))
    if not worst <= allowed < np.inf:  # an infinite bound, of logits that overflow, would allow anything
        raise AdapterRejected(
            adapter.ref,
            f"its probe gives logits that differ by {worst:.3g} from the recorded ones, at most {allowed:.3g} is "
            f"allowed in {name_of(trunk.precision)}; its weights or the plugin have changed since it was stored, "
            "fetch or train it again",
        )


def _recorded(ref: str, probe: Probe, found: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Return the recorded logits of each text. Raises AdapterRejected unless they have the shapes of `found`."""
    arrays = []
    for text, recorded, logits in zip(probe.texts, probe.logits, found, strict=True):
        try:
            expected = np.asarray(recorded, dtype=np.float64)  # no JSON number overflows it
        except ValueError:  # a ragged list
            expected = np.asarray(np.nan)
        if expected.size == logits.size == 0:  # no word in the text: an empty list has no second dimension
            expected = expected.reshape(logits.shape)
        elif expected.shape != logits.shape:
            raise AdapterRejected(
                ref,
                f"probe {text!r} gives logits of shape {logits.shape}, expected {expected.shape} as recorded",
            )
        arrays.append(expected)
    return arrays


def _distance(found: list[np.ndarray[Any, Any]], expected: list[np.ndarray[Any, Any]]) -> float:
    """Return the root mean square of all differences, 0 without logits."""
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses a result that is not finite
        squares = [np.square(own - other).ravel() for own, other in zip(found, expected, strict=True)]
        numbers = np.concatenate(squares)
        return float(np.sqrt(numbers.mean())) if numbers.size else 0.0
