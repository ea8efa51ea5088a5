"""Decodes the bytes of a file to text, with one encoding for the whole file."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from onetrunk.core.data.notes import Note
from onetrunk.core.errors import DataError, UsageError

_MARKS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
"""Byte order marks; longer ones first, because the mark of UTF-16 begins that of UTF-32."""

_FAMILIES = {
    "cp1252": "western",
    "cp1254": "western",
    "cp1250": "western",
    "mac_roman": "western",
    "gb18030": "simplified Chinese",
    "big5": "traditional Chinese",
    "cp932": "Japanese",
    "euc_jp": "Japanese (EUC)",
    "cp949": "Korean",
    "cp1251": "Cyrillic",
    "koi8_r": "Cyrillic (KOI8)",
    "cp1253": "Greek",
}
"""The encodings that can be guessed. Of two equally likely ones of one family, the first is taken."""

_NEAR = 5.0
"""A guess is certain if its score is larger by this than that of every other family, in percent."""
_SAMPLE = 64 * 2**10
_MOSTLY = 2 / 3
_HIGH = re.compile(rb"[\x80-\xff]+")
_KANA = re.compile("[\u3041-\u30ff]")
_SHARES = {
    "gb18030": ((_KANA, 0, 0.2),),
    "big5": ((_KANA, 0, 0.2),),
    "cp949": ((re.compile("[\uac00-\ud7a3]"), 0.8, 1),),
    "cp932": ((_KANA, 0.1, 1), (re.compile("[\uff61-\uff9f]"), 0, 0.2)),
    "euc_jp": ((_KANA, 0.1, 1),),
}
"""The lowest and the highest share of kana, Hangul and half-width katakana among the letters of a language."""
_FEW_LETTERS = 10
_TURKISH = re.compile("[þÞðÐýÝ]")
"""What the Turkish letters of cp1254 are in cp1252: letters of Icelandic, which also has those of `_ACUTE`."""
_ACUTE = re.compile("[áéíóúæÁÉÍÓÚÆ]")
_NUL_SHARE = 0.25
_ISO_2022_JP = (b"\x1b$B", b"\x1b$@")
REMEDY = "name its encoding with --encoding, such as cp1252 or gb18030, or save it as UTF-8"


def check_encoding(encoding: str) -> None:
    """Raise UsageError unless `encoding` is the name of a text encoding that Python knows."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise UsageError(
            f"unknown encoding {encoding!r}; expected a name such as utf-8, cp1252 or utf-16"
        ) from None


@dataclass(slots=True)
class TextDecoder:
    """Decodes one file.

    name: of the file, for messages.
    encoding: that the user named; None takes UTF-8, or guesses.
    notes: a note is appended if the encoding is not UTF-8.
    """

    name: str
    encoding: str | None
    notes: list[Note]
    _line_ends: dict[str, int] = field(default_factory=lambda: {"\n": 0, "\r": 0})
    _line_bytes: int = 0
    _plain: bool = True  # whether all characters so far are ASCII

    def decode(self, blocks: Iterable[bytes]) -> Iterator[str]:
        """Yield the text of each block; a mark at the beginning stays.

        Without `encoding`: UTF-16 or UTF-32 if there is a byte order mark, or zero bytes as UTF-16 has; otherwise
        UTF-8. If a byte is not UTF-8 and all text before is ASCII, the encoding is guessed from the block.
        Raises DataError, with file and line, for bytes that the encoding lacks, and if no guess is possible.
        """
        source = iter(blocks)
        first = next(source, b"")
        given, note = self.encoding, ""
        if given is None:
            given, note = _by_signs(first)
        if note:
            self._note(f"is {note}", 1)
        encoding = given or "utf-8"
        decoder = codecs.getincrementaldecoder(encoding)()
        for block in _with_end(first, source):
            try:
                text = decoder.decode(block or b"", final=block is None)
            except UnicodeDecodeError as fault:
                if given is not None or not self._plain:
                    raise self._error(fault, encoding) from fault
                data = bytes(fault.object)
                encoding = given = self._guessed(data, fault)
                decoder = codecs.getincrementaldecoder(encoding)()
                try:
                    text = decoder.decode(data, final=block is None)
                except UnicodeDecodeError as again:
                    raise self._error(again, encoding) from again
            except UnicodeError as fault:  # a codec that needs a byte order mark
                raise DataError(f"{self.name}:1", f"{fault}; name its encoding, such as utf-16-le") from fault
            self._count(text, block or b"")
            yield text

    def _guessed(self, data: bytes, fault: UnicodeDecodeError) -> str:
        line = self._line_of(fault)
        try:
            _refuse_mixed(data)
            encoding, confidence, others = guess(data)
        except ValueError as problem:
            what = f"byte {self._column_of(fault)} (0x{data[fault.start]:02x}) is not UTF-8"
            raise DataError(f"{self.name}:{line}", f"{what}, and {problem}; {REMEDY}") from fault
        also = f"; it could also be {' or '.join(others)}" if others else ""
        self._note(f"is not UTF-8; read as {encoding} (a guess, confidence {confidence:.2f}{also})", line)
        return encoding

    def _note(self, message: str, line: int) -> None:
        remedy = "--encoding names another one"
        self.notes.append(Note("encoding", f"{message}; {remedy}", self.name, where=f"{self.name}:{line}"))

    def _error(self, fault: UnicodeDecodeError, encoding: str) -> DataError:
        shown = "UTF-8" if encoding == "utf-8" else encoding
        value = fault.object[fault.start]
        what = f"byte {self._column_of(fault)} (0x{value:02x}) is not {shown}"
        if self.encoding is None and encoding == "utf-8":
            what += ", although the text before is"
        return DataError(f"{self.name}:{self._line_of(fault)}", f"{what}; {REMEDY}")

    def _line_of(self, fault: UnicodeDecodeError) -> int:
        before = fault.object[: fault.start]
        lines = self._line_ends["\n"] + before.count(b"\n")
        return 1 + (lines or self._line_ends["\r"] + before.count(b"\r"))

    def _column_of(self, fault: UnicodeDecodeError) -> int:
        start = fault.object.rfind(b"\n", 0, fault.start) + 1
        return fault.start - start + 1 + (0 if start else self._line_bytes)

    def _count(self, text: str, block: bytes) -> None:
        self._plain = self._plain and text.isascii()
        for end in self._line_ends:
            self._line_ends[end] += text.count(end)
        at = block.rfind(b"\n") + 1
        self._line_bytes = len(block) - at + (0 if at else self._line_bytes)


def guess(data: bytes) -> tuple[str, float, list[str]]:
    """Return the most likely encoding of `data`, which is not UTF-8, a confidence from 0 to 1, and other encodings.

    The others are of the same family, equally likely, and read the data as another text.
    Raises ValueError if none fits, or if encodings of several families fit equally well.
    """
    from charset_normalizer import from_bytes

    sample = _sample(data)
    found = from_bytes(sample, cp_isolation=list(_FAMILIES), threshold=0.3)
    scores: dict[str, float] = {}
    chaos: dict[str, float] = {}
    for match in found:
        for encoding in {match.encoding, *match.could_be_from_charset} & set(_FAMILIES):
            if not _is_unlikely(encoding, str(match)):
                scores[encoding] = match.percent_coherence - match.percent_chaos
                chaos[encoding] = match.percent_chaos
    if not scores:
        raise ValueError("no known encoding fits")
    best = max(scores.values())
    near = [encoding for encoding in _FAMILIES if scores.get(encoding, -1e9) > best - _NEAR]
    families = dict.fromkeys(_FAMILIES[encoding] for encoding in near)
    if len(families) > 1 and "western" in families and _has_single_letters(sample):
        families = {"western": None}
    if len(families) > 1:
        raise ValueError(f"it could be {' or '.join(_first_of(near))}")
    chosen = next(encoding for encoding in near if _FAMILIES[encoding] in families)
    text = sample.decode(chosen, "replace")
    others = [each for each in near if _FAMILIES[each] in families and sample.decode(each, "replace") != text]
    return chosen, (1 - chaos[chosen] / 100) / (1 + len(others)), others


def _first_of(encodings: Iterable[str]) -> list[str]:
    """Return the first encoding of each family."""
    first: dict[str, str] = {}
    for encoding in encodings:
        first.setdefault(_FAMILIES[encoding], encoding)
    return list(first.values())


def _sample(data: bytes) -> bytes:
    """Return the whole lines of `data` that are not ASCII, up to a limit: cut characters confuse the guess."""
    end = data.rfind(b"\n") + 1 or len(data)
    lines = [line for line in data[:end].splitlines(keepends=True) if not line.isascii()]
    sample = b"".join(lines) or data
    return sample if len(sample) <= _SAMPLE else sample[: sample.rfind(b"\n", 0, _SAMPLE) + 1 or _SAMPLE]


def _has_single_letters(sample: bytes) -> bool:
    """Return whether most bytes that are not ASCII stand alone, as accents in a western text do."""
    runs = _HIGH.findall(sample)
    return sum(len(run) == 1 for run in runs) >= _MOSTLY * len(runs)


def _is_unlikely(encoding: str, text: str) -> bool:
    if encoding == "cp1252":
        return bool(_TURKISH.search(text)) and not _ACUTE.search(text)
    letters = "".join(each for each in text if each.isalpha() and not each.isascii())
    # cp949 adds rare syllables, with other bytes, to EUC-KR; Japanese and Chinese bytes are read as those.
    rare = encoding == "cp949"
    common = "".join(each for each in letters if not rare or min(each.encode("cp949", "replace")) > 0xA0)
    for pattern, lowest, highest in _SHARES.get(encoding, ()):
        count = len(pattern.findall(common))
        if count > highest * len(letters) or (len(letters) >= _FEW_LETTERS and count < lowest * len(letters)):
            return True
    return False


def _refuse_mixed(data: bytes) -> None:
    """Raise ValueError if at least as many characters of `data` are UTF-8 as are not."""
    text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    if sum(not each.isascii() for each in text) - wrong >= wrong:
        raise ValueError("other characters are: the file mixes encodings")


def _by_signs(first: bytes) -> tuple[str | None, str]:
    """Return the encoding that a mark, zero or escape bytes of the first block show, and the words of its note."""
    if any(sign in first for sign in _ISO_2022_JP):
        return "iso2022_jp", "read as iso2022_jp, by its escape sequences"
    for mark, encoding in _MARKS.items():
        if first.startswith(mark):
            return encoding, f"read as {encoding}, by its byte order mark"
    even, odd = first[::2].count(0), first[1::2].count(0)
    if min(even, odd) * 4 >= max(even, odd):
        return None, ""
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    few = max(even, odd) <= _NUL_SHARE * len(first)
    if few and (_decodes(first, "utf-8") or "\n".encode(encoding) not in first):
        return None, ""  # single zero bytes are an error of their line
    if not _decodes(first, encoding):
        return None, ""
    return encoding, f"read as {encoding}, by its zero bytes (a guess)"


def _decodes(block: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(block)
    except UnicodeDecodeError:
        return False
    return True


def _with_end(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes | None]:
    yield first
    yield from rest
    yield None
