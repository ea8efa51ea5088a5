"""Reader of CoNLL files: one token per line, a blank line between sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.lines import NumberedLine
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Record
from onetrunk.core.tasks.iob2 import TAGS_EXPECTED, iob_begins, is_tag, to_iob2

_DOCSTART = "-DOCSTART-"


def read_conll(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (line number of its first token, {"words": [...], "tags": [...] in IOB2}) for each sentence.

    Columns are separated by tabs if the first token line has a tab, otherwise by spaces. The first column is the
    token, and the last one is the tag; others are ignored. All lines must have the same number of columns.
    A sentence ends at a blank line, or at a `-DOCSTART-` line, which is skipped.
    A file has comments only if its first sentence begins with lines that start with `# ` and cannot be token lines
    (another number of columns, or no tag in the last one). In such a file, these lines are skipped at the beginning
    of every sentence. Everywhere else `#` is a token.

    Raises DataError, with file and line, for a wrong number of columns, an empty token and an invalid tag.
    """
    layout: _Layout | None = None
    begins = _Begins()
    for block in _blocks(source.lines()):
        if layout is None and all(_looks_like_comment(line) for _, line in block):
            continue  # comments at the beginning of the file
        layout = layout or _Layout.of(block)
        tokens = layout.without_comments(block)
        if not tokens:
            continue
        pairs = [_token(f"{source.name}:{number}", line, layout) for number, line in tokens]
        tags = [tag for _, tag in pairs]
        begins.add(tags, f"{source.name}:{tokens[0][0]}")
        yield tokens[0][0], {"words": [word for word, _ in pairs], "tags": to_iob2(tags)}
    begins.note(source)


@dataclass(slots=True)
class _Begins:
    """Counts, and first places, of entities that begin as in IOB1 only and as in IOB2 only."""

    counts: list[int] = field(default_factory=lambda: [0, 0])
    first: list[str] = field(default_factory=lambda: ["", ""])

    def add(self, tags: Sequence[str], where: str) -> None:
        for scheme, count in enumerate(iob_begins(tags)):
            self.counts[scheme] += count
            self.first[scheme] = self.first[scheme] or (where if count else "")

    def note(self, source: Source) -> None:
        if all(self.counts):
            rarer = self.counts.index(min(self.counts))
            source.note(
                "mixed-schemes",
                f"{self.counts[0]} entities begin with I- (IOB1) and {self.counts[1]} with B- (IOB2); both "
                "are read as the beginning of an entity",
                self.counts[rarer],
                self.first[rarer],
            )


@dataclass(frozen=True, slots=True)
class _Layout:
    separator: str
    width: int
    comments: bool

    @classmethod
    def of(cls, block: Sequence[NumberedLine]) -> _Layout:
        first = next((line for _, line in block if not line.startswith("#")), block[-1][1])
        separator = "\t" if "\t" in first else " "
        layout = cls(separator, len(_cells(first, separator)), comments=True)
        return cls(separator, layout.width, comments=layout.is_comment(block[0][1]))

    def is_comment(self, line: str) -> bool:
        if not (self.comments and _has_comment_sign(line)):
            return False
        cells = _cells(line, self.separator)
        return len(cells) != self.width or not is_tag(cells[-1])

    def without_comments(self, block: Sequence[NumberedLine]) -> Sequence[NumberedLine]:
        start = next((at for at, (_, line) in enumerate(block) if not self.is_comment(line)), len(block))
        return block[start:]


def _blocks(lines: Iterable[NumberedLine]) -> Iterator[list[NumberedLine]]:
    block: list[NumberedLine] = []
    for number, text in lines:
        line = text.rstrip("\r\n")
        if line.strip(" \t") and not line.startswith(_DOCSTART):
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _token(where: str, line: str, layout: _Layout) -> tuple[str, str]:
    cells = _cells(line, layout.separator)
    if len(cells) < 2:
        raise DataError(
            where, "has one column; expected a token and its tag, separated by a tab or by spaces"
        )
    if len(cells) != layout.width:
        raise DataError(
            where,
            f"has {len(cells)} columns; expected {layout.width}, as in the first token line of the file",
        )
    if not cells[0]:
        raise DataError(where, "the token is empty; a sentence ends with a blank line")
    if not is_tag(cells[-1]):
        raise DataError(where, f"the last column is {cells[-1]!r}; expected a tag: {TAGS_EXPECTED}")
    return cells[0], cells[-1]


def _cells(line: str, separator: str) -> list[str]:
    # str.split() would also split at a no-break space or an ideographic space, which a token can contain.
    if separator == "\t":
        return [cell.strip(" ") for cell in line.split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _has_comment_sign(line: str) -> bool:
    return line.startswith("# ") or line == "#"


def _looks_like_comment(line: str) -> bool:
    return _has_comment_sign(line) and "\t" not in line and not is_tag(_cells(line, " ")[-1])
