"""`Backbone`: the files, tokenizer and fingerprints of a pretrained encoder."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

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
from onetrunk.core.backbones.device import resolve_device, resolve_dtype
from onetrunk.core.backbones.families import (
    FAMILIES,
    Family,
    check_positions,
    checked_sizes,
    expected_shapes,
    linear_shapes,
    read_config,
)
from onetrunk.core.backbones.repository import OFFLINE_NAME, locate
from onetrunk.core.backbones.tokenization import TextEncoder
from onetrunk.core.backbones.transformers_encoder import SUPPORTED, load_padded, read_padded
from onetrunk.core.errors import BackboneError, UnsupportedBackbone
from onetrunk.core.tasks import Pooling

DEFAULT_BACKBONE = OFFLINE_NAME

_TOKENIZER_JSON = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

TOKENIZER_PROBE = ("Ada's naïve résumé, 1,234.5 €!", "東京 Привет 🙂 don't", "UPPER lower\tTab")


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A pretrained encoder. Its weights are not kept here, but in a trunk (`core.trunk`). Thread-safe.

    name: Hub id or folder.
    revision: Hub commit, None for a folder.
    config: the configuration of transformers.
    shapes: shape of each weight, by its name in the bare encoder (`encoder.layer.0.…`).
    pooler: weight (width, width) and bias (width,) of the pretrained pooler, None without one.
    pooling: the pooling that the setting `auto` selects.
    fingerprint: sha256 of names, shapes and values of the weights.
    tokenizer_fingerprint: sha256 of the vocabulary and of the token ids of `TOKENIZER_PROBE`.
    device: default device of trunks.
    dtype: default precision of a trunk's products with the pretrained weights.
    trunks: the trunks in use, by precision. `core.trunk.build.trunk_of` fills it and holds `building` meanwhile.
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
    trunks: WeakValueDictionary[torch.dtype, Any] = field(init=False, default_factory=WeakValueDictionary)
    building: threading.Lock = field(init=False, default_factory=threading.Lock)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = DEFAULT_BACKBONE,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Backbone:
        """Load a backbone from a Hub id or a local folder; the default one also from its offline package.

        device: `auto` (CUDA if available), `cpu`, `cuda`, `cuda:1`, …
        dtype: `auto` (bf16 if the device has instructions for it, else fp32), `fp32`, `bf16`, or `int8` for
            inference only.
        Raises BackboneError if files are missing or damaged, or can neither be found nor downloaded,
        UnsupportedBackbone for a model that is not an encoder or not supported, and UsageError if the device or the
        dtype is not available.
        """
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        name = str(name_or_path)
        found, commit = locate(name, revision)
        folder = found.absolute()
        config = read_config(name, folder)
        stamps = file_stamps(name, folder)
        family, tensors, pooler = _encoder(name, folder, config)
        tokenizer = _read_tokenizer(name, folder)
        _check_tokens(name, tokenizer, config)
        tokenizer_fingerprint = _tokenizer_fingerprint(tokenizer)
        return cls(
            name=name,
            revision=commit,
            folder=folder,
            stamps=stamps,
            family=family,
            config=config,
            shapes={key: tuple(tensor.shape) for key, tensor in tensors.items()},
            encoder=_text_encoder(tokenizer, config, family),
            pooler=pooler,
            pooling=_declared_pooling(name, folder),
            fingerprint=fingerprint(tensors),
            tokenizer_fingerprint=tokenizer_fingerprint,
            device=where,
            dtype=precision,
        )

    def read_tensors(self) -> dict[str, Tensor]:
        """Read the weights again, by their name in the bare encoder, in float32 on the CPU.

        Weights stored in float32 are memory-mapped from the files: do not write to them.
        Raises BackboneError if the files are missing or have changed since the backbone was loaded.
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
        """Return a new tokenizer of transformers. Raises BackboneError if its files are missing or damaged."""
        return _read_tokenizer(self.name, self.folder)

    @property
    def public_name(self) -> str:
        """The name to publish: the Hub id, or a local folder's name without the path, which is private."""
        folder = Path(self.name)
        return folder.resolve().name if folder.is_dir() else self.name

    @property
    def hidden_size(self) -> int:
        """Number of values of a hidden state."""
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
        """(d_out, d_in) of every linear module that an adapter can target."""
        return linear_shapes(self.family.layout, self.shapes)

    @property
    def first_position(self) -> int:
        """Index of the position embedding of a sequence's first token."""
        return self.encoder.first_position


def load_text_encoder(name_or_path: str | Path = DEFAULT_BACKBONE) -> TextEncoder:
    """Load the tokenizer of a backbone without its weights. Raises the errors of `Backbone.load`."""
    name = str(name_or_path)
    found, _ = locate(name, None)
    folder = found.absolute()
    config = read_config(name, folder)
    tokenizer = _read_tokenizer(name, folder)
    _check_tokens(name, tokenizer, config)
    return _text_encoder(tokenizer, config, FAMILIES.get(config.model_type))


def _text_encoder(tokenizer: Any, config: Any, family: Family | None) -> TextEncoder:
    after_padding = family is not None and family.positions_after_padding
    first = int(config.pad_token_id) + 1 if after_padding else 0
    return TextEncoder(tokenizer, int(config.max_position_embeddings) - first, first)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes and float32 values of `tensors`, which have any shapes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return the sha256 of vocabulary and tokenisation; it does not depend on the file format or on padding."""
    encodings = tokenizer.backend_tokenizer.encode_batch(list(TOKENIZER_PROBE))
    probe = [list(compress(encoding.ids, encoding.attention_mask)) for encoding in encodings]
    seen = {"vocab": sorted(tokenizer.get_vocab().items()), "probe": probe}
    return hashlib.sha256(json.dumps(seen, ensure_ascii=True).encode()).hexdigest()


def _encoder(
    name: str, folder: Path, config: Any
) -> tuple[Family, dict[str, Tensor], tuple[Tensor, Tensor] | None]:
    """Return family, weights by name and pooler. Raises UnsupportedBackbone for a model that is not an encoder."""
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
    tensors = read_weights(name, folder, family.prefix, shapes)
    check_finite(name, tensors)
    return family, tensors, read_pooler(name, folder, family.prefix)


def _read_tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any(is_there(name, folder / file) for file in ("tokenizer.json", "vocab.txt", "vocab.json")):
        raise BackboneError(name, f"no tokenizer files in {folder}; expected tokenizer.json or a vocabulary")
    for file in _TOKENIZER_JSON:
        if is_there(name, folder / file):
            read_object(name, folder / file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as error:  # transformers does not check these files and raises any error
        raise BackboneError(name, f"the tokenizer cannot be read: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise BackboneError(
            name, "the tokenizer has no fast form (tokenizer.json), which character offsets need"
        )
    return tokenizer


def _check_tokens(name: str, tokenizer: Any, config: Any) -> None:
    """Raise BackboneError for a missing special token, or a token without an embedding in the encoder."""
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
    """Return `mean` if a sentence-transformers folder declares it, else `cls`."""
    file = folder / "1_Pooling" / "config.json"
    if is_there(name, file) and read_object(name, file).get("pooling_mode_mean_tokens"):
        return "mean"
    return "cls"
