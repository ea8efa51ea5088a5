"""Small real encoders with random weights and a fast tokenizer, for tests without network."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from onetrunk.core.backbones.rng import global_generators

TinyModel = Literal["bert", "roberta", "electra", "distilbert", "deberta-v2", "modernbert"]
_WORDS = tuple(
    "the a of in to and is was not very good bad great awful film book table flight room london paris ada "  # noqa: SIM905
    "grace love like hate want please cancel find where what it my i you".split()
)
_ENDINGS = ("s", "ed", "ing", "er", "ly", "n't", "on")


@dataclass(frozen=True, slots=True)
class TinyShape:
    """The size of a tiny encoder.

    hidden: the size of the hidden states, a multiple of 4.
    positions: the longest sequence in tokens, special tokens included.
    """

    layers: int = 2
    hidden: int = 32
    positions: int = 64


_DEFAULT_SHAPE = TinyShape()


def tiny_backbone(
    folder: Path,
    *,
    model_type: TinyModel = "bert",
    shape: TinyShape = _DEFAULT_SHAPE,
    seed: int = 0,
    mean_pooling: bool = False,
) -> Path:
    """Write a small real encoder with random weights and a fast tokenizer, and return `folder`.

    The folder has the files of transformers (config.json, model.safetensors, tokenizer.json). No network is used.
    The global generators of torch are left unchanged.

    model_type: transformers' name of the architecture. `roberta` gets a byte-level BPE tokenizer; all others get a
        lower-case WordPiece tokenizer.
    seed: of the random weights. Biases and norms are random too, so that a test notices a missing one.
    mean_pooling: whether the folder declares mean pooling in a file of sentence-transformers,
        1_Pooling/config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _byte_level_bpe() if model_type == "roberta" else _wordpiece()
    tokenizer.save_pretrained(folder)
    _random_model(_tiny_config(model_type, tokenizer, shape), seed).save_pretrained(folder)
    if mean_pooling:
        pooling = folder / "1_Pooling"
        pooling.mkdir(exist_ok=True)
        declared = {"word_embedding_dimension": shape.hidden, "pooling_mode_mean_tokens": True}
        (pooling / "config.json").write_text(json.dumps(declared), encoding="utf-8")
    return folder


def _random_model(config: Any, seed: int) -> Any:
    from transformers import AutoModel

    with global_generators(seed), torch.no_grad():
        model = AutoModel.from_config(config)
        for name, weight in model.named_parameters():
            mean = 1.0 if name.lower().endswith("norm.weight") else 0.0
            weight.copy_(mean + 0.15 * torch.randn_like(weight))
    return model


def _tiny_config(model_type: TinyModel, tokenizer: Any, shape: TinyShape) -> Any:
    from transformers import AutoConfig

    hidden = shape.hidden
    first_position = tokenizer.pad_token_id + 1 if model_type == "roberta" else 0
    own: dict[str, Any] = {
        "roberta": {"type_vocab_size": 1},
        "electra": {"embedding_size": hidden // 2},
        "deberta-v2": {
            "relative_attention": True,
            "position_buckets": 8,
            "position_biased_input": False,
            "pos_att_type": ["c2p", "p2c"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "type_vocab_size": 0,
        },
        "modernbert": {
            "local_attention": 16,
            "cls_token_id": tokenizer.cls_token_id,
            "sep_token_id": tokenizer.sep_token_id,
        },
    }
    return AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        max_position_embeddings=shape.positions + first_position,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        **{"hidden_dim" if model_type == "distilbert" else "intermediate_size": 2 * hidden},
        **own.get(model_type, {}),
    )


def _wordpiece() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted({*string.ascii_lowercase, *string.digits, *string.punctuation, *"éßñ東京🙂"})
    pieces = [*special, *characters, *(f"##{c}" for c in characters), *_WORDS, *(f"##{e}" for e in _ENDINGS)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return _fast(tokenizer, *special)


def _byte_level_bpe() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    words = [*(f"Ġ{word}" for word in _WORDS), *_WORDS, *_ENDINGS]  # Ġ stands for a space before the word
    merges = list(dict.fromkeys((word[:i], word[i]) for word in words for i in range(1, len(word))))
    order = [special[2], special[0], special[3], special[1]]  # the order of RoBERTa: the padding id is not 0
    pieces = [*order, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges), special[4]]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), add_prefix_space=False
    )
    return _fast(tokenizer, *special)


def _fast(tokenizer: Any, pad: str, unknown: str, before: str, after: str, mask: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=before,
        sep_token=after,
        mask_token=mask,
        bos_token=before,
        eos_token=after,
    )
