"""Encodes texts as token ids: cuts long texts into windows, and finds the token of every word."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tokenizers.normalizers import NFC
from tokenizers.normalizers import Sequence as Normalizers

from onetrunk.core.tasks import Span

OVERLAP = 0.25
"""Smallest share of a window's tokens that the next window has too: every token has context on both sides."""

MAX_CHARACTERS = 2_000_000
"""Largest number of characters of a text: a book of about a thousand pages."""

_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as token ids.

    A text with more tokens than the backbone has positions is several windows, which overlap. The text has one row
    for each of its tokens, one before them and one after them for the special tokens.

    windows: the ids (tokens,) of each window, special tokens included.
    join_window, join_row: (rows,) for each row of the text, its window, and the index of its token in that window.
    words: (words,) the row of each word's first token.
    first_position: index of the position embedding of a window's first token.
    spans: the characters of each word.
    unknown: the characters of each token that the tokenizer's vocabulary lacks.
    """

    windows: tuple[np.ndarray, ...]
    join_window: np.ndarray
    join_row: np.ndarray
    words: np.ndarray
    first_position: int = 0
    spans: tuple[Span, ...] = ()
    unknown: tuple[Span, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows of the text: its tokens and two special tokens."""
        return len(self.join_row)

    @property
    def tokens(self) -> int:
        """Number of tokens of all windows: the cost of the text in the encoder."""
        return sum(map(len, self.windows))

    def count(self, token: int | None) -> int:
        """Return how often a token id occurs in the text; 0 for None."""
        if token is None:
            return 0
        if len(self.windows) == 1:
            return int((self.windows[0] == token).sum())
        ids = np.concatenate(self.windows)
        starts = np.cumsum([0, *map(len, self.windows[:-1])])
        return int((ids[starts[self.join_window] + self.join_row] == token).sum())

    def window(self, index: int) -> Encoded:
        """Return one window as a text without words."""
        ids = self.windows[index]
        rows = np.arange(len(ids))
        return Encoded((ids,), np.zeros_like(rows), rows, rows[:0], self.first_position)


class TextEncoder:
    """Encodes texts with a fast tokenizer. Thread-safe.

    Texts are composed (NFC) before anything else, so that "é" has the same tokens however it was typed. Offsets
    count the characters of the text as it was given.

    tokenizer: a fast tokenizer of transformers. The constructor adds NFC, and turns truncation and padding off. Do
        not change its settings afterwards: a change while another thread tokenises raises "Already borrowed".
    max_tokens: largest number of tokens of a window, special tokens included.
    first_position: index of the position embedding of a window's first token (0 for BERT, padding id + 1 for
        RoBERTa).
    """

    def __init__(self, tokenizer: Any, max_tokens: int, first_position: int = 0) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        own = self._tokenizer.normalizer
        self._tokenizer.normalizer = NFC() if own is None else Normalizers([NFC(), own])
        self._before, self._after = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.unknown = tokenizer.unk_token_id
        self.first_position = first_position
        self._size = max_tokens - 2  # without special tokens

    def encode(
        self, texts: Sequence[str], words: Sequence[Sequence[Span]], *, join: bool = False
    ) -> list[Encoded]:
        """Encode `texts`; words: the character spans of each text's words, () for a task without words.

        join: see `arrange`.
        """
        pairs = zip(self.tokenise(texts), words, strict=True)
        return [self.arrange(tokens, spans, join=join) for tokens, spans in pairs]

    def tokenise(self, texts: Sequence[str]) -> list[Any]:
        """Tokenise `texts`: the slow half of `encode`. `arrange` can use one result for several tasks.

        A lone surrogate, which JSON allows and UTF-8 does not, is read as U+FFFD; this keeps character offsets.
        """
        plain = [text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text) for text in texts]
        return list(self._tokenizer.encode_batch(plain, add_special_tokens=False))

    def arrange(self, tokens: Any, spans: Sequence[Span] = (), *, join: bool = False) -> Encoded:
        """Cut the tokens of one text into windows, and find the row of each word.

        spans: the words' characters.
        join: whether words that share their first token become one word; `Encoded.spans` has the words.
        """
        ids: list[int] = list(tokens.ids)
        unknown: tuple[Span, ...] = ()
        if self.unknown in ids:
            pairs = zip(ids, tokens.offsets, strict=True)
            unknown = tuple(span for token, span in pairs if token == self.unknown)
        rows: list[int] = []
        if spans:
            ids, rows = _align(ids, tokens.offsets, spans, self.unknown)
            if join:
                spans, rows = _joined(spans, rows)
        encoded = self._cut(np.asarray(ids, dtype=np.int64), np.asarray(rows, dtype=np.int64))
        return replace(encoded, spans=tuple(spans), unknown=unknown)

    def most_tokens(self, windows: int) -> int:
        """Return how many tokens a text of this number of windows has at most, without special tokens."""
        return self._size + (windows - 1) * (self._size - int(self._size * OVERLAP))

    def part(self, encoded: Encoded, start: int, stop: int) -> Encoded:
        """Return the tokens start:stop of a text, counted without special tokens, as a text of its own."""
        rows = slice(start + 1, stop + 1)
        windows = zip(encoded.join_window[rows], encoded.join_row[rows], strict=True)
        content = np.fromiter((encoded.windows[window][row] for window, row in windows), dtype=np.int64)
        words = encoded.words[(encoded.words > start) & (encoded.words <= stop)]
        return self._cut(content, words - 1 - start)

    def _cut(self, content: np.ndarray, words: np.ndarray) -> Encoded:
        """Cut a text into windows.

        content: its ids without special tokens. words: (words,) the index of each word's first token.
        """
        starts = _window_starts(len(content), self._size)
        windows = tuple(
            np.concatenate(([self._before], content[start : start + self._size], [self._after]))
            for start in starts
        )
        join_window, join_row = _join(len(content), starts, self._size)
        return Encoded(windows, join_window, join_row, words + 1, self.first_position)


def length_fault(text: str) -> str | None:
    """Return why a text is too long for the encoder, None if it is not. Longer texts would exhaust the memory."""
    if len(text) <= MAX_CHARACTERS:
        return None
    return (
        f"the text has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read; divide it into records"
    )


def unknown_share(encoded: Iterable[Encoded]) -> float:
    """Return the share of the tokens of all texts that the tokenizer's vocabulary lacks; 0 without tokens."""
    unknown = tokens = 0
    for text in encoded:
        unknown += len(text.unknown)
        tokens += text.rows - 2
    return unknown / max(1, tokens)


def _align(
    ids: list[int], offsets: Sequence[Span], spans: Sequence[Span], unknown: int
) -> tuple[list[int], list[int]]:
    """Return the ids, and for each word the index of the first token that covers one of its characters.

    The tokenizer drops some words, such as an invisible character. An unknown token is inserted for such a word, so
    that every word has a row. transformers does not insert one, and gives other logits for such a text.
    """
    out: list[int] = []
    rows: list[int] = []
    ends = [end for _, end in offsets]
    taken = 0
    for start, end in spans:
        first = bisect_right(ends, start, lo=max(taken - 1, 0))
        if first < len(ids) and offsets[first][0] < end:
            out += ids[taken : first + 1]
            rows.append(len(out) - 1 if first >= taken else rows[-1])
            taken = max(taken, first + 1)
        else:
            out += [*ids[taken:first], unknown]
            rows.append(len(out) - 1)
            taken = max(taken, first)
    return out + ids[taken:], rows


def _joined(spans: Sequence[Span], rows: Sequence[int]) -> tuple[list[Span], list[int]]:
    """Return the words and their rows; of words with the same row, one that covers them all."""
    words: list[Span] = []
    own: list[int] = []
    for (start, end), row in zip(spans, rows, strict=True):
        if own and own[-1] == row:
            words[-1] = words[-1][0], end
        else:
            words.append((start, end))
            own.append(row)
    return words, own


def _window_starts(length: int, size: int) -> list[int]:
    """Return the index of the first token of each window; the windows are evenly spread over the text."""
    if length <= size:
        return [0]
    step = size - int(size * OVERLAP)
    count = 1 + -(-(length - size) // step)
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def _join(length: int, starts: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `Encoded.join_window` and `join_row`: each token is taken from the window with the most context."""
    if len(starts) == 1:
        return np.zeros(length + 2, dtype=np.int64), np.arange(length + 2)
    token = np.arange(length)
    begin = np.asarray(starts)
    # The border between two windows is the middle of their overlap.
    borders = (begin[1:] + begin[:-1] + size) // 2
    window = np.searchsorted(borders, token, side="right")
    last = len(starts) - 1
    join_window = np.concatenate(([0], window, [last]))
    return join_window, np.concatenate(([0], token - begin[window] + 1, [size + 1]))
