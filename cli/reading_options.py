"""Options of commands that read data files; they are passed as one `ReadOptions`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, get_args, get_type_hints

import click

from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions

_HELP = {
    "format": "Format of the data files, such as label-studio; see docs/data.md.  [default: by suffix or content]",
    "encoding": "Text encoding, such as cp1252 or utf-16.  [default: UTF-8, or a guess with a note]",
    "delimiter": "Delimiter of tables, such as ';'.  [default: by suffix and header]",
    "quoting": "Quotation marks in tables: csv (they enclose cells), none (they are text), or auto.",
    "text_column": "Column or key with the text.  [default: text, or a usual name with a note]",
    "label_column": "Column or key with the label.  [default: label, or a usual name with a note]",
    "labels": "Names of integer labels, in order: O,B-PER,…, a JSON list, or a file (JSON, or a name a line).",
    "columns": "Columns of CoNLL, from 1, such as word=2,tag=3.  [default: first and last]",
    "offsets": "Unit of the offsets of entities.",
    "nested": "Entities that overlap: refuse the record, or keep the longest.",
    "strict": "Make notes that put the result in doubt into errors.",
}


def reading_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options `names` of `ReadOptions`, by default all, passed as `reading`."""
    chosen = names or tuple(_HELP)

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(body)
        def command(*arguments: Any, **options: Any) -> Any:
            given = {name: options.pop(name) for name in chosen}
            return body(*arguments, reading=ReadOptions(**given), **options)

        for name in reversed(chosen):
            command = _option(name)(command)
        return command

    return decorate


def _option(name: str) -> Callable[..., Any]:
    flag, default = f"--{name.replace('_', '-')}", getattr(AS_WRITTEN, name)
    if isinstance(default, bool):
        return click.option(flag, name, is_flag=True, help=_HELP[name])
    choices = get_args(get_type_hints(ReadOptions)[name])
    kind: click.ParamType[Any] | None = None
    if name in _TYPES:
        kind = _TYPES[name]
    elif choices and all(isinstance(each, str) for each in choices):
        kind = click.Choice(choices)
    shown = "[default" not in _HELP[name] and name != "labels"
    return click.option(flag, name, type=kind, default=default, show_default=shown, help=_HELP[name])


class ColumnNumbers(click.ParamType[Any]):
    """Numbers of columns by role, such as `word=2,tag=3`, converted to a dict."""

    name = "columns"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        """Return the numbers. Raises BadParameter unless each part is `word=N` or `tag=N` with N ≥ 1."""
        if not isinstance(value, str):
            return dict(value)
        numbers: dict[str, int] = {}
        for part in value.split(","):
            role, _, number = part.strip().partition("=")
            if role not in ("word", "tag") or not number.isdecimal() or int(number) < 1 or role in numbers:
                self.fail(f"{part.strip()!r} is not one of word=N, tag=N with N from 1", param, ctx)
            numbers[role] = int(number)
        return numbers


class LabelNames(click.ParamType[Any]):
    """Names of labels, separated by commas, in a JSON list or in a file, converted to a tuple."""

    name = "labels"

    def convert(self, value: Any, _param: Any, _context: Any) -> tuple[str, ...]:
        """Return the names. Raises UsageError and DataError as `read_label_names` does."""
        from onetrunk.core.data.label_names import read_label_names

        return read_label_names(value) if isinstance(value, str) else tuple(value)


_TYPES: dict[str, click.ParamType[Any]] = {"columns": ColumnNumbers(), "labels": LabelNames()}
