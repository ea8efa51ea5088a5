"""The frozen backbone: its weights, tokenizer and fingerprints, from the Hub, a folder or the offline package."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onetrunk.adapters.methods.lora import Target
from onetrunk.core.backbones.checkpoint import (
    FileStamps,
    check_finite,
    file_stamps,
    first_line,
    is_there,
    read_object,
    read_pooler,
    read_weights,
)
from onetrunk.core.backbones.configuration import check_positions, checked_sizes, read_config
from onetrunk.core.backbones.device import resolve_device, resolve_dtype
from onetrunk.core.backbones.families import FAMILIES, Family, expected_shapes, linear_shapes
from onetrunk.core.backbones.repository import locate
from onetrunk.core.backbones.shared_values import SharedValues
from onetrunk.core.backbones.tokenization import TextEncoder
from onetrunk.core.backbones.transformers_encoder import SUPPORTED, load_padded, read_padded
from onetrunk.core.errors import BackboneError, UnsupportedBackbone
from onetrunk.core.tasks import Pooling

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"

_TOKENIZER_JSON = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

TOKENIZER_PROBE = ("Ada's naïve résumé, 1,234.5 €!", "東京 Привет 🙂 don't", "UPPER lower\tTab")


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A pretrained encoder, frozen. Its weights stay in its files: the trunk has the one copy in memory.

    name, revision: as a user would ask for it again; revision is the Hub commit, None for a folder.
    folder: its files. stamps: sizes and times of those with the weights when they were read.
    family, config: its layout and its transformers configuration.
    shapes: of the encoder's weights, by their name in the bare encoder (`encoder.layer.0.…`).
    encoder: turns texts into token ids; all threads share it.
    pooler: the pretrained pooler's weight (width, width) and bias (width,), where the files have one.
    pooling: what `auto` pooling means here.
    fingerprint: sha256 over names, shapes and values of the weights; tokenizer_fingerprint: over the vocabulary
        and over what the tokenizer makes of `TOKENIZER_PROBE`.
    device, dtype: where a trunk of this backbone runs, and in what its frozen products do.
    trunks: the trunks of this backbone that are in use, by the dtype of their products; `trunk_of` fills it.
    """

    name: str
    revision: str | None
    folder: Path
    stamps: FileStamps
    family: Family
    config: Any
    shapes: Mapping[str, tuple[int, ...]]
    encoder: TextEncoder
    pooler: tuple[Tensor, Tensor] | None
    pooling: Pooling
    fingerprint: str
    tokenizer_fingerprint: str
    device: torch.device
    dtype: torch.dtype
    trunks: SharedValues[torch.dtype, Any] = field(init=False, default_factory=SharedValues)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = DEFAULT_BACKBONE,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Backbone:
        """Load a backbone from a Hub id, a local folder or, for the default one, the installed offline package.

        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, …
        dtype: `auto` (bf16 where the device computes in it natively), `fp32`, `bf16`, or `int8`, which serves only.
        Raises BackboneError (files missing, offline and not cached, hash mismatch), UnsupportedBackbone (not an
        encoder, or one that cannot be run rightly) and UsageError (device or dtype not to be had).
        """
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        files = locate(str(name_or_path), revision)
        name, folder = files.name, files.folder.absolute()
        config = read_config(name, folder)
        stamps = file_stamps(name, folder)
        family, tensors, pooler = _encoder(name, folder, config)
        tokenizer = _read_tokenizer(name, folder)
        _check_tokens(name, tokenizer, config)
        tokenizer_fingerprint = _tokenizer_fingerprint(tokenizer)
        first = _first_position(family, config)
        return cls(
            name=name,
            revision=files.revision,
            folder=folder,
            stamps=stamps,
            family=family,
            config=config,
            shapes={key: tuple(tensor.shape) for key, tensor in tensors.items()},
            encoder=TextEncoder(tokenizer, int(config.max_position_embeddings) - first, first),
            pooler=pooler,
            pooling=_declared_pooling(name, folder),
            fingerprint=fingerprint(tensors),
            tokenizer_fingerprint=tokenizer_fingerprint,
            device=where,
            dtype=precision,
        )

    def read_tensors(self) -> dict[str, Tensor]:
        """Read the weights again: by their name in the bare encoder, float32, on the CPU; not to be written to.

        Files in float32 are mapped into memory, which is free again as soon as nobody holds one of the tensors.
        Raises BackboneError where the files are gone or have changed since the backbone was loaded.
        """
        if file_stamps(self.name, self.folder) != self.stamps:
            raise BackboneError(
                self.name,
                f"the weights in {self.folder} have changed since the backbone was loaded; load it again",
            )
        if self.family.packed:
            return read_weights(self.name, self.folder, self.family.prefix, self.shapes)
        return read_padded(self.name, self.folder)

    def read_tokenizer(self) -> Any:
        """Read transformers' tokenizer again; it is the caller's own. Raises BackboneError as `load` does."""
        return _read_tokenizer(self.name, self.folder)

    @property
    def public_name(self) -> str:
        """The name as an adapter keeps it: of a local folder without its path, which is nobody's business."""
        folder = Path(self.name)
        return folder.resolve().name if folder.is_dir() else self.name

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def layers(self) -> int:
        """Number of encoder layers."""
        return 1 + max(layer for layer, _ in self.linear_shapes)

    @property
    def parameters(self) -> int:
        """Number of weights in the encoder."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def linear_shapes(self) -> dict[Target, tuple[int, int]]:
        """(d_out, d_in) of every linear that an adapter can target."""
        return linear_shapes(self.family.layout, self.shapes)

    @property
    def first_position(self) -> int:
        """Position index of a sequence's first token."""
        return _first_position(self.family, self.config)


def _first_position(family: Family, config: Any) -> int:
    return int(config.pad_token_id) + 1 if family.positions_after_padding else 0


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, shapes and float32 values of `tensors`."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash what the tokenizer does, not how this version of the library writes it down, nor how it pads."""
    encodings = tokenizer.backend_tokenizer.encode_batch(list(TOKENIZER_PROBE))
    probe = [list(compress(encoding.ids, encoding.attention_mask)) for encoding in encodings]
    seen = {"vocab": sorted(tokenizer.get_vocab().items()), "probe": probe}
    return hashlib.sha256(json.dumps(seen, ensure_ascii=True).encode()).hexdigest()


def _encoder(
    name: str, folder: Path, config: Any
) -> tuple[Family, dict[str, Tensor], tuple[Tensor, Tensor] | None]:
    """Return the family of an encoder, its weights and its pooler. Raises UnsupportedBackbone for no encoder."""
    if getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False):
        raise UnsupportedBackbone(
            name, f"{config.model_type!r} is not an encoder, but a decoder; {SUPPORTED}"
        )
    if config.model_type not in FAMILIES:
        padded, tensors = load_padded(name, folder, config)
        check_positions(name, padded, config)
        return padded, tensors, None
    family = FAMILIES[config.model_type]
    check_positions(name, family, config)
    shapes = expected_shapes(family, checked_sizes(name, family, config))
    tensors, pooler = (
        read_weights(name, folder, family.prefix, shapes),
        read_pooler(name, folder, family.prefix),
    )
    check_finite(name, tensors)
    return family, tensors, pooler


def _read_tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any(is_there(name, folder / file) for file in ("tokenizer.json", "vocab.txt", "vocab.json")):
        raise BackboneError(name, f"no tokenizer files in {folder}; expected tokenizer.json or a vocabulary")
    for file in _TOKENIZER_JSON:
        if is_there(name, folder / file):
            read_object(name, folder / file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except (
        Exception
    ) as error:  # transformers does not check these files: what it stumbles over may be anything
        raise BackboneError(name, f"the tokenizer cannot be read: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise BackboneError(
            name, "the tokenizer has no fast form (tokenizer.json), which character offsets need"
        )
    return tokenizer


def _check_tokens(name: str, tokenizer: Any, config: Any) -> None:
    """Raise BackboneError unless the encoder has an embedding for every token, the special ones included."""
    for special in ("cls", "sep", "unk"):
        if getattr(tokenizer, f"{special}_token_id") is None:
            raise BackboneError(
                name, f"the tokenizer has no {special} token; expected that of a BERT-like encoder"
            )
    tokens = max(tokenizer.get_vocab().values()) + 1
    if tokens > config.vocab_size:
        raise BackboneError(
            name,
            f"the tokenizer has {tokens} tokens, the encoder {config.vocab_size}; they do not belong together",
        )


def _declared_pooling(name: str, folder: Path) -> Pooling:
    """Return `mean` where a sentence-transformers folder says so, else `cls`."""
    file = folder / "1_Pooling" / "config.json"
    if is_there(name, file) and read_object(name, file).get("pooling_mode_mean_tokens"):
        return "mean"
    return "cls"
