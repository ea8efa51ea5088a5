"""Checks that a plain PEFT adapter was trained with the tokenizer of its backbone.

Many adapters come with a copy of the tokenizer. If tokens were added to it, the backbone here would split them, and
would lack their embeddings: the adapter would give other answers without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onetrunk.adapters.errors import ArtifactError, first_few
from onetrunk.adapters.format.artifact import read_object
from onetrunk.adapters.format.files import FileFault, FileMissing, read_regular
from onetrunk.core.backbones.backbone import TOKENIZER_PROBE, Backbone
from onetrunk.core.interop.import_labels import MODEL_CONFIG

TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"
ADDED = "added_tokens.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"

TOKENIZER_FILES = (TOKENIZER, VOCABULARY, ADDED, TOKENIZER_CONFIG, SPECIAL)
"""The files of a tokenizer that are read."""
MAX_TOKENIZER = 2**26
"""The largest file of a tokenizer that is read, in bytes."""

_HINT = (
    "train it again with the tokenizer of the backbone, or merge it into its model with PEFT (merge_and_unload), "
    "save the model with its tokenizer, and use that as a backbone"
)


def check_tokenizer(folder: Path, backbone: Backbone, texts: tuple[str, ...]) -> None:
    """Check the tokenizer in `folder`, if there is one, against that of `backbone`.

    texts: texts that both must split into the same tokens, besides `TOKENIZER_PROBE`.
    Raises ArtifactError for tokens that the backbone lacks, for other ids, and for another split of a text; also if
    config.json in `folder` has another number of tokens.
    """
    size = _object(folder, MODEL_CONFIG).get("vocab_size")
    if size not in (None, backbone.config.vocab_size):
        raise ArtifactError(
            folder,
            f"{MODEL_CONFIG} says {size!r:.20} tokens, the backbone {backbone.name} has "
            f"{backbone.config.vocab_size}: the embeddings were resized; give the backbone that it was trained on",
        )
    own = backbone.read_tokenizer().backend_tokenizer
    known: dict[str, int] = own.get_vocab(with_added_tokens=True)
    theirs = _tokenizer(folder)
    found = dict(_tokens(folder)) if theirs is None else theirs.get_vocab(with_added_tokens=True)
    if extra := [token for token in found if token not in known]:
        raise ArtifactError(
            folder,
            f"its tokenizer has {len(extra)} tokens that the backbone {backbone.name} lacks: {first_few(extra)}; "
            f"the backbone would split them, and lacks their embeddings; {_HINT}",
        )
    if moved := [token for token, number in found.items() if number not in (None, known[token])]:
        raise ArtifactError(
            folder,
            f"its tokenizer has other ids than the backbone {backbone.name}: {first_few(moved)}; {_HINT}",
        )
    if theirs is None:
        return
    for each in (own, theirs):
        each.no_truncation()
        each.no_padding()
    for text in (*texts, *TOKENIZER_PROBE):
        if theirs.encode(text).ids != own.encode(text).ids:
            why = f"splits {text[:40]!r} into other tokens than the tokenizer of the backbone {backbone.name}"
            raise ArtifactError(folder, f"its {TOKENIZER} {why}; {_HINT}")


def _tokenizer(folder: Path) -> Any:
    """Return the tokenizer of the `tokenizers` library in tokenizer.json; None without this file."""
    from tokenizers import Tokenizer

    if (data := _read(folder, TOKENIZER)) is None:
        return None
    try:
        return Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises no narrower class
        raise ArtifactError(folder, f"{TOKENIZER} cannot be read: {error!s:.200}") from error


def _tokens(folder: Path) -> Iterator[tuple[str, int | None]]:
    """Yield each token that the other files list, with its id; None if the file does not give it."""
    if (data := _read(folder, VOCABULARY)) is not None:
        lines = data.decode("utf-8", "replace").splitlines()
        yield from ((line, number) for number, line in enumerate(lines) if line)
    for token, number in _object(folder, ADDED).items():
        yield token, number if isinstance(number, int) else None
    decoder = _object(folder, TOKENIZER_CONFIG).get("added_tokens_decoder")
    for number, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if isinstance(content := _content(entry), str):
            yield content, int(number) if str(number).isdecimal() else None
    special = _object(folder, SPECIAL).get("additional_special_tokens")
    for entry in special if isinstance(special, list) else []:
        if isinstance(content := _content(entry), str):
            yield content, None


def _content(entry: object) -> object:
    """Return the text of a token, which is described by its text or by an object."""
    return entry.get("content") if isinstance(entry, dict) else entry


def _object(folder: Path, name: str) -> dict[str, Any]:
    return read_object(folder, name) if (folder / name).exists() else {}


def _read(folder: Path, name: str) -> bytes | None:
    try:
        return read_regular(folder / name, MAX_TOKENIZER)
    except FileMissing:
        return None
    except FileFault as error:
        raise ArtifactError(folder, f"{name} {error}") from error
