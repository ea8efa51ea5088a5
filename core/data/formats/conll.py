"""Reader of CoNLL files: one token per line, a blank line between sentences."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.formats.tag_schemes import FileTags
from onetrunk.core.data.lines import NumberedLine
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Record
from onetrunk.core.tasks.iob2 import TAGS_EXPECTED, iob_begins, is_tag, to_iob2

_DOCSTART = "-DOCSTART-"
_COUNTED = 3
"""The number of tokens from which on a first column that counts them is no accident."""
_HELD = 10_000
"""The number of token lines that are read, at most, before the layout and the scheme of the tags are decided."""
_INVISIBLE = ("Zs", "Zl", "Zp", "Cf")
"""Unicode's categories of spaces and of format characters, such as U+200B."""
_SURE = 50
"""The number of token lines from which on a file is CoNLL."""

_Block = list[NumberedLine]


def read_conll(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (line number of its first token, {"words": [...], "tags": [...] in IOB2}) for each sentence.

    Columns are separated by tabs if the first token line has a tab, otherwise by spaces. The first column is the
    token, and the last one is the tag, unless `ReadOptions.columns` names others. All lines must have the same
    number of columns; empty ones at the end do not count.
    A sentence ends at a blank line, or at a `-DOCSTART-` line, which is skipped.
    A file has comments only if its first sentence begins with lines that start with `#` and white space and cannot
    be token lines (another number of columns, or no tag in the last one). In such a file, these lines are skipped
    at the beginning of every sentence. Everywhere else `#` is a token.
    Tags without a type or without a prefix are read with a note, see `FileTags`.

    Raises DataError, with file and line, for a wrong number of columns, a first column that counts the tokens, a
    token that is not visible and an invalid tag.
    """
    blocks = _blocks(source.lines())
    first = next((block for block in blocks if not all(_looks_like_comment(line) for _, line in block)), None)
    if first is None:
        return
    layout = _Layout.of(source, first)
    tags, begins = FileTags(), _Begins()
    held = _decided(source, layout, tags, first, blocks)
    for block in chain(held, blocks):
        numbered = layout.without_comments(block)
        if not numbered:
            continue
        tokens = [_token(f"{source.name}:{number}", line, layout, tags) for number, line in numbered]
        where = f"{source.name}:{numbered[0][0]}"
        own = tags.prefixed([tag for _, tag in tokens], where)
        begins.add(own, where)
        yield numbered[0][0], {"words": [word for word, _ in tokens], "tags": to_iob2(own)}
    source.notes += tags.notes(source.name)
    begins.note(source)


def looks_like_conll(lines: Iterable[str]) -> bool:
    """Return whether a file that begins with `lines` is CoNLL; no line is read that is not needed to know.

    All lines of the first sentence have the same number of columns, at least two, and a tag in the last one. A
    single line shows it only with a tab, because a text can end with the word O.
    """
    separator, width, tokens = "", 0, 0
    for text in lines:
        line = text.rstrip("\r\n")
        if not line.strip(" \t"):
            if tokens > 1:
                return True
            continue
        if not tokens and (line.startswith(_DOCSTART) or _looks_like_comment(line)):
            continue
        separator = separator or ("\t" if "\t" in line else " ")
        cells = _cells(line, separator)
        width = width or len(cells)
        if len(cells) < 2 or len(cells) != width or not is_tag(cells[-1]):
            return False
        tokens += 1
        if separator == "\t" or tokens == _SURE:
            return True
    return tokens > 1


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
                f"{self.counts[0]} entities begin with I- (IOB1) and {self.counts[1]} with B- (IOB2); both are "
                "read as the beginning of an entity",
                self.counts[rarer],
                self.first[rarer],
            )


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of a file. word, tag: their index; -1 is the last one."""

    separator: str
    width: int
    comments: bool = True
    word: int = 0
    tag: int = -1

    @classmethod
    def of(cls, source: Source, block: Sequence[NumberedLine]) -> _Layout:
        number, first = next((each for each in block if not each[1].startswith("#")), block[-1])
        separator = "\t" if "\t" in first else " "
        columns: Mapping[str, int] = source.options.columns
        layout = cls(
            separator,
            len(_cells(first, separator)),
            True,
            columns.get("word", 1) - 1,
            columns.get("tag", 0) - 1,
        )
        beyond = max(columns.values(), default=0)
        if beyond > layout.width:
            raise DataError(
                f"{source.name}:{number}", f"has {layout.width} columns, but --columns names column {beyond}"
            )
        return replace(layout, comments=layout.is_comment(block[0][1]))

    def cells(self, line: str) -> list[str]:
        cells = _cells(line, self.separator)
        return cells + [""] * (line.endswith(self.separator) and len(cells) == self.width - 1)

    def is_comment(self, line: str) -> bool:
        if not (self.comments and _has_comment_sign(line)):
            return False
        cells = self.cells(line)
        return len(cells) != self.width or not is_tag(cells[self.tag])

    def without_comments(self, block: Sequence[NumberedLine]) -> Sequence[NumberedLine]:
        start = next((at for at, (_, line) in enumerate(block) if not self.is_comment(line)), len(block))
        return block[start:]


def _decided(
    source: Source, layout: _Layout, tags: FileTags, first: _Block, blocks: Iterator[_Block]
) -> Sequence[_Block]:
    """Read blocks until it is clear what the first column is, and which scheme the tags have; return them.

    The scheme `types` needs a word without an entity: otherwise the last column could be anything.
    """
    held: list[_Block] = []
    outside, counted, held_lines = False, 0, 0
    counting = layout.word == 0 and "word" not in source.options.columns
    for block in chain([first], blocks):
        held.append(block)
        held_lines += len(block)
        rows = [layout.cells(line) for _, line in layout.without_comments(block)]
        own = [row[layout.tag] for row in rows if len(row) == layout.width]
        outside = outside or "O" in own
        tags.decide(own)
        counting = counting and [row[0] for row in rows] == [str(at) for at in range(1, len(rows) + 1)]
        counted += len(rows)
        if counting and counted >= _COUNTED:
            raise DataError(f"{source.name}:{first[0][0]}", _numbers(layout, rows))
        clear = tags.scheme is not None and (outside or tags.scheme != "types")
        if (clear and not counting) or held_lines >= _HELD:
            break
    if tags.scheme == "types" and not outside:
        tags.scheme = "prefixed"
    return held


def _numbers(layout: _Layout, rows: Sequence[Sequence[str]]) -> str:
    columns = [at for at in range(1, layout.width) if all(len(row) > at and is_tag(row[at]) for row in rows)]
    tag = (columns or [layout.width - 1])[0] + 1
    example = f"--columns word=2,tag={tag}" if layout.width > 2 else "a column with the words"
    if len(columns) > 1:
        example += f" (columns {', '.join(str(at + 1) for at in columns)} have tags)"
    return (
        f"the first column counts the tokens of each sentence; expected the token; name its column: {example}"
    )


def _blocks(lines: Iterable[NumberedLine]) -> Iterator[_Block]:
    block: _Block = []
    for number, text in lines:
        line = text.rstrip("\r\n")
        if line.strip(" \t") and not line.startswith(_DOCSTART):
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _token(where: str, line: str, layout: _Layout, tags: FileTags) -> tuple[str, str]:
    cells = layout.cells(line)
    if len(cells) < 2:
        raise DataError(
            where, "has one column; expected a token and its tag, separated by a tab or by spaces"
        )
    if len(cells) != layout.width:
        raise DataError(
            where,
            f"has {len(cells)} columns; expected {layout.width}, as in the first token line of the file",
        )
    word, tag = cells[layout.word], cells[layout.tag]
    if not word:
        raise DataError(where, "the token is empty; a sentence ends with a blank line")
    if not word.isascii() and all(unicodedata.category(each) in _INVISIBLE for each in word):
        name = unicodedata.name(word[0], "a control character")
        raise DataError(
            where,
            f"the token is not visible: U+{ord(word[0]):04X} ({name}); remove the line, or name the token",
        )
    if not tags.fits(tag):
        column = "last column" if layout.tag == -1 else f"column {layout.tag + 1}"
        raise DataError(where, f"the {column} is {tag!r}; expected a tag: {TAGS_EXPECTED}")
    return word, tag


def _cells(line: str, separator: str) -> list[str]:
    """Return the columns of a line, without empty ones at the end."""
    # str.split() would also split at a no-break space or an ideographic space, which a token can contain.
    if separator == "\t":
        return [cell.strip(" ") for cell in line.rstrip("\t").split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _has_comment_sign(line: str) -> bool:
    return line.startswith(("# ", "#\t")) or line == "#"


def _looks_like_comment(line: str) -> bool:
    return _has_comment_sign(line) and "\t" not in line[2:] and not is_tag(_cells(line, " ")[-1])
