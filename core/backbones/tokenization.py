"""Texts → token ids: one tokenisation a text, windows for long ones, and the token row of every word."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrunk.core.tasks import Span

OVERLAP = 0.25
"""Share of a window that it has in common with the next, so that no token lacks context on both sides."""

_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as token ids.

    windows: the ids of each window, special tokens included; one window unless the text is longer than the
        backbone's positions.
    join_window, join_row: (rows,) the window, and the row within it, of each row of the text put together.
    words: (words,) the row of each word's first token.
    """

    windows: tuple[np.ndarray, ...]
    join_window: np.ndarray
    join_row: np.ndarray
    words: np.ndarray

    @property
    def rows(self) -> int:
        """Rows of the text put together: its tokens and one pair of special tokens."""
        return len(self.join_row)

    @property
    def tokens(self) -> int:
        """Tokens that the trunk computes, over all windows."""
        return sum(map(len, self.windows))


class TextEncoder:
    """Encodes texts with a fast tokenizer; safe to share between threads.

    tokenizer: a fast tokenizer of transformers. The encoder takes it over: it switches truncation and padding off
        here, before any thread tokenises with it, and nobody may change a setting afterwards. A change during a
        tokenisation in another thread raises an error ("Already borrowed").
    max_tokens: the longest sequence that the backbone has positions for, special tokens included.
    unknown: the id of the unknown token.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._before, self._after = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.unknown = tokenizer.unk_token_id
        self._room = max_tokens - 2

    def encode(self, texts: Sequence[str], words: Sequence[Sequence[Span]]) -> list[Encoded]:
        """Encode `texts`; `words` are the spans of each text's words, () where a task needs none."""
        return [
            self.arrange(tokens, spans) for tokens, spans in zip(self.tokenise(texts), words, strict=True)
        ]

    def tokenise(self, texts: Sequence[str]) -> list[Any]:
        """Tokenise `texts`, the costly half of `encode`; the results can be arranged for several tasks.

        Half a surrogate pair, which JSON can hold and UTF-8 cannot, is read as U+FFFD: offsets stay right.
        """
        plain = [text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text) for text in texts]
        return list(self._tokenizer.encode_batch(plain, add_special_tokens=False))

    def arrange(self, tokens: Any, spans: Sequence[Span] = ()) -> Encoded:
        """Cut one text's tokens into windows and find the row of each word of `spans`."""
        ids: list[int] = list(tokens.ids)
        rows: list[int] = []
        if spans:
            ids, rows = _align(ids, tokens.offsets, spans, self.unknown)
        content = np.asarray(ids, dtype=np.int64)
        starts = _window_starts(len(content), self._room)
        windows = tuple(self._with_specials(content[start : start + self._room]) for start in starts)
        join_window, join_row = _join(len(content), starts, self._room)
        return Encoded(windows, join_window, join_row, np.asarray(rows, dtype=np.int64) + 1)

    def _with_specials(self, ids: np.ndarray) -> np.ndarray:
        return np.concatenate(([self._before], ids, [self._after])).astype(np.int64)


def _align(
    ids: list[int], offsets: Sequence[Span], spans: Sequence[Span], unknown: int
) -> tuple[list[int], list[int]]:
    """Return the ids, and for each word the index of the first token that covers a character of it.

    A word that the tokenizer drops (an invisible character, say) is read as the unknown token, put in its place,
    so that every word has a row of its own. Plain transformers puts none there: such a text has other logits in it.
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


def _window_starts(length: int, room: int) -> list[int]:
    """Return where windows of `room` tokens begin, evenly spread, each with at least `OVERLAP` of the last."""
    if length <= room:
        return [0]
    step = room - int(room * OVERLAP)
    count = 1 + -(-(length - room) // step)
    return [round(i * (length - room) / (count - 1)) for i in range(count)]


def _join(length: int, starts: Sequence[int], room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return window and row of each row of the whole text: each token where it has most context."""
    if len(starts) == 1:
        return np.zeros(length + 2, dtype=np.int64), np.arange(length + 2)
    token = np.arange(length)
    begin = np.asarray(starts)
    # The border between two windows is the middle of what they share.
    borders = (begin[1:] + begin[:-1] + room) // 2
    window = np.searchsorted(borders, token, side="right")
    last = len(starts) - 1
    join_window = np.concatenate(([0], window, [last]))
    return join_window, np.concatenate(([0], token - begin[window] + 1, [room + 1]))
