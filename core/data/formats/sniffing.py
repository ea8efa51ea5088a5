"""Which format a file without a telling suffix has, by its first lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from onetrunk.adapters.format.strict_json import JSONFault, loads
from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.formats.conll import looks_like_conll
from onetrunk.core.data.formats.plain import FASTTEXT_MARK
from onetrunk.core.data.lines import NumberedLine
from onetrunk.core.errors import DataError
from onetrunk.core.tasks.iob2 import is_tag

_LIST_START = re.compile(r"\s*\[\s*(\{|\[\s*\"|$)")
_TABLES = {"\t": "tsv", ",": "csv", ";": "csv", "|": "csv"}
_HTML = re.compile(r"\s*<(!doctype html|html)", re.IGNORECASE)
_LFS = "version https://git-lfs.github.com/"
_JSON = re.compile(r'\s*(\{\s*"|\[\s*\{)')
_CONLLU_COLUMNS = (10, 11)
_FIRST_ID = re.compile("1(-[0-9]+)?")
_NAMES = {
    "jsonl": "JSON lines, by its first line",
    "json": "a list in JSON, by its first line",
    "csv": "CSV, by its header",
    "tsv": "TSV, by its header",
    "conll": "CoNLL (words and tags), by its first sentence",
    "conllu": "CoNLL-U, by its columns",
    "fasttext": "a file of fastText, by its first label",
    "text": "one text a line, without labels",
}


def format_of_lines(source: Source, *, texts: bool) -> str:
    """Return the format that the first lines of `source` show; `source` still yields all lines.

    `{` at the beginning means JSONL, `[` or `[{` JSON, a header with a column `text` CSV or TSV, `__label__`
    fastText; CoNLL as `looks_like_conll` says; anything else is one text a line.
    texts: whether one text a line is expected, as for `predict`: then JSON must be valid, and a header needs two
        columns. A format that is not expected is noted.
    """
    found = _found(source, source.first_line(), texts)
    if texts != (found == "text"):
        message = f"read as {_NAMES[found]}; --format names another format"
        source.note("format", message, where=f"{source.name}:1")
    return found


def refuse_other_format(source: Source, expected: str) -> None:
    """Raise DataError if a file, which its suffix calls `expected`, begins as something else.

    This is HTML, a pointer of Git LFS, or JSON in a table.
    """
    head = source.first_line()
    if _HTML.match(head):
        what = "begins as an HTML page, such as the error page of a download"
        raise DataError(f"{source.name}:1", f"{what}; expected {expected}; download the file again")
    if head.startswith(_LFS):
        raise DataError(f"{source.name}:1", "is a pointer of Git LFS, without the data; run: git lfs pull")
    if expected in ("csv", "tsv") and _JSON.match(head):
        form = "jsonl" if head.lstrip().startswith("{") else "json"
        raise DataError(
            f"{source.name}:1", f"begins as JSON; expected {expected}; rename it, or --format {form}"
        )


def is_conllu(source: Source) -> bool:
    """Return whether a CoNLL file has the columns of CoNLL-U and there is no `--columns`; if so, note it."""
    if source.options.columns or not _has_conllu_columns(source):
        return False
    source.note("format", f"read as {_NAMES['conllu']}; --format conll reads other columns")
    return True


def _has_conllu_columns(source: Source) -> bool:
    lines = source.lines()
    seen: list[NumberedLine] = []
    found = False
    for line in lines:
        seen.append(line)
        if line[1].strip() and not line[1].startswith("#"):
            cells = line[1].split("\t")
            found = len(cells) in _CONLLU_COLUMNS and _FIRST_ID.fullmatch(cells[0]) is not None
            break
    source.numbered = chain(seen, lines)
    return found


def _found(source: Source, head: str, texts: bool) -> str:
    if head.lstrip().startswith("{") and (not texts or _is_json(head)):
        return "jsonl"
    if _LIST_START.match(head) and (not texts or _is_json(head)):
        return "json"
    for delimiter, kind in _TABLES.items():
        header = [cell.strip(' "\r\n').lower() for cell in head.split(delimiter)]
        if "text" in header and len(header) > texts and not is_tag(head.split(delimiter)[-1].strip()):
            return kind
    if head.startswith(FASTTEXT_MARK):
        return "fasttext"
    if _has_conllu_columns(source):
        return "conllu"
    return "conll" if _is_conll(source) else "text"


def _is_json(line: str) -> bool:
    try:
        value = loads(line)
    except JSONFault:
        return False
    return isinstance(value, dict) or (
        isinstance(value, list) and all(isinstance(each, dict) for each in value)
    )


def _is_conll(source: Source) -> bool:
    lines = source.lines()
    seen: list[NumberedLine] = []

    def texts() -> Iterator[str]:
        for line in lines:
            seen.append(line)
            yield line[1]

    found = looks_like_conll(texts())
    source.numbered = chain(seen, lines)
    return found
