"""The answers of `adapters predict`: as records, in files of JSON lines, CSV or Parquet, and in a summary."""

from __future__ import annotations

import csv
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from onetrunk.cli.number_format import counted, duration
from onetrunk.cli.streams import clear_errors, whole_binary_file, whole_file
from onetrunk.core.data.notes import Note
from onetrunk.core.errors import PredictionFailed, UsageError
from onetrunk.core.tasks.guarded_calls import json_faults

if TYPE_CHECKING:
    from onetrunk.core.data.texts import TextRecord
    from onetrunk.core.tasks import JSONObject
    from onetrunk.core.tasks.prediction import Prediction

OutputFormat = Literal["jsonl", "csv", "parquet"]
_SUFFIXES: Mapping[str, OutputFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
MOST_COLUMNS = 10_000
"""Columns that a CSV or Parquet file may have."""
_GROUP = 10_000
"""Rows of a Parquet file that are in memory together."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters at the start of a cell that make a spreadsheet compute the cell."""
_LABELS_SHOWN = 10
"""Labels of an adapter that the summary prints."""

Predict = Callable[[Iterable[str]], Iterator[Sequence["Prediction"]]]
"""Predicts a stream of texts: yields the predictions of all adapters for each text. It reads few texts ahead."""
Cell = str | int | float | bool | None
Lines = Callable[[], Iterator[str]]
"""Yields all answers as lines of JSON; it can be called again."""


def format_of(path: Path) -> OutputFormat:
    """Return the format of an output file by its suffix.

    Raises UsageError for another suffix, and for Parquet without pyarrow.
    """
    form = _SUFFIXES.get(path.suffix.lower())
    if form is None:
        fault = f"the suffix {path.suffix} is unknown" if path.suffix else "the name has no suffix"
        raise UsageError(f"--output {path}: {fault}; expected .jsonl (JSON lines), .csv or .parquet")
    if form == "parquet" and find_spec("pyarrow") is None:
        raise UsageError(
            f"--output {path}: Parquet needs pyarrow; run `pip install 'onetrunk[parquet]'`, or use .jsonl or .csv"
        )
    return form


def write_output(path: Path, form: OutputFormat, lines: Lines) -> list[Note]:
    """Write the output file as a whole, and return notes on it. Raises UsageError if it cannot be written."""
    if form == "jsonl":
        with whole_file(path) as file:
            file.writelines(f"{line}\n" for line in lines())
        return []
    columns = _columns(path, lines())
    if form == "csv":
        return _write_csv(path, columns, lines())
    _write_parquet(path, columns, lines())
    return []


def flat(record: JSONObject) -> dict[str, Cell]:
    """Return a record with flat columns: an object under `key` becomes the columns `key.NAME`, a list is JSON text.

    Raises ValueError if two values get the same column.
    """
    row: dict[str, Cell] = {}
    for key, value in record.items():
        inner = (
            {f"{key}.{name}": each for name, each in value.items()}
            if isinstance(value, dict)
            else {key: value}
        )
        for column, each in inner.items():
            if column in row:
                raise ValueError(f"two values of a record would get the column {column!r}")
            nested = isinstance(each, dict | list)
            row[column] = json.dumps(each, ensure_ascii=False) if nested else each
    return row


def _columns(path: Path, lines: Iterable[str]) -> dict[str, set[type]]:
    """Return the columns of all records, in the order of their first appearance, with the types of their values."""
    found: dict[str, set[type]] = {}
    try:
        for line in lines:
            for column, value in flat(json.loads(line)).items():
                large = isinstance(value, int) and not -(2**63) <= value < 2**63  # Parquet has 64 bits
                found.setdefault(column, set()).add(str if large else type(value))
            if len(found) > MOST_COLUMNS:
                raise ValueError(f"the records have more than {MOST_COLUMNS:,} different keys")
    except ValueError as error:
        raise UsageError(f"--output {path}: {error}; write JSON lines instead (.jsonl)") from error
    return found


def _write_csv(path: Path, columns: Iterable[str], lines: Iterable[str]) -> list[Note]:
    names, marked = list(columns), 0
    with whole_file(path) as file:
        table = csv.writer(
            file
        )  # ends lines with \r\n; with \n alone, Python 3.11 does not quote a \r in a cell
        table.writerow(map(_cell, names))
        for line in lines:
            row = flat(json.loads(line))
            cells = [_cell(row.get(name)) for name in names]
            marked += sum(map(_is_formula, row.values()))
            table.writerow(cells)
    if not marked:
        return []
    message = (
        f"{counted(marked, 'cell')} that a spreadsheet would compute got a leading apostrophe; "
        "JSON lines (.jsonl) keep them as they are"
    )
    return [Note("formula-cells", message, str(path), marked)]


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{_unicode(value)}" if _is_formula(value) else _unicode(str(value))


def _is_formula(value: Cell) -> TypeGuard[str]:
    return isinstance(value, str) and value.startswith(_FORMULA)


def _write_parquet(path: Path, columns: Mapping[str, set[type]], lines: Iterator[str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {name: _arrow_type(pa, types) for name, types in columns.items()}
    schema = pa.schema(list(kinds.items()))
    text = pa.string()
    with (
        whole_binary_file(path) as file,
        clear_errors(str(path)),
        parquet.ParquetWriter(file, schema) as writer,
    ):
        while group := [flat(json.loads(line)) for line in islice(lines, _GROUP)]:
            data = {
                name: [_text(row.get(name)) if kind == text else row.get(name) for row in group]
                for name, kind in kinds.items()
            }
            writer.write_table(pa.Table.from_pydict(data, schema))


def _arrow_type(pa: Any, types: set[type]) -> Any:
    """Return the type of a column: that of its values, and text if they have different types."""
    known = types - {type(None)}
    if known == {bool}:
        return pa.bool_()
    if known == {int}:
        return pa.int64()
    return pa.float64() if known and known <= {int, float} else pa.string()


def _text(value: Cell) -> str | None:
    if value is None:
        return None
    return _unicode(value) if isinstance(value, str) else json.dumps(value)


def _unicode(text: str) -> str:
    """Return `text` with lone surrogates, which come from bytes on the command line, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class PredictionSummary:
    """Counts the texts, and the labels by adapter, of a prediction."""

    def __init__(self) -> None:
        self.texts = 0
        self.labels: dict[str, Counter[str]] = {}

    def add(self, answers: Iterable[JSONObject]) -> None:
        """Count the answers for a text. Answers without a label and without entities are not counted by label."""
        self.texts += 1
        for answer in answers:
            counts = self.labels.setdefault(str(answer.get("adapter")), Counter())
            label, entities = answer.get("label"), answer.get("entities")
            if isinstance(label, str):
                counts[label] += 1
            elif isinstance(entities, list):
                counts.update(
                    str(each["label"]) for each in entities if isinstance(each, dict) and "label" in each
                )

    def to_json(self, seconds: float, output: Path, notes: Iterable[Note]) -> JSONObject:
        """Return the summary as JSON. seconds: wall time.  output: the output file."""
        return {
            "output": str(output),
            "texts": self.texts,
            "seconds": round(seconds, 3),
            "labels": {adapter: dict(counts.most_common()) for adapter, counts in self.labels.items()},
            "notes": [note.to_json() for note in notes],
        }

    def lines(self, seconds: float, output: Path | None) -> Iterator[str]:
        """Yield the lines for people."""
        written = "" if output is None else f", written to {output}"
        yield f"{counted(self.texts, 'text')} in {duration(seconds)}{written}"
        for adapter, counts in self.labels.items():
            shown = [f"{label} {count}" for label, count in counts.most_common(_LABELS_SHOWN)]
            rest = len(counts) - len(shown)
            also = f" and {counted(rest, 'other label')}" if rest else ""
            if shown:
                yield f"{adapter}: {', '.join(shown)}{also}"


def answers_of(answers: Sequence[Prediction], extra: Mapping[str, Any]) -> Iterator[JSONObject]:
    """Yield the predictions for a text as JSON. extra: the other keys of its record, added under `input`."""
    for answer in answers:
        record = answer.to_json()
        if extra:
            record.setdefault("input", dict(extra))  # keeps a key `input` of the task's result
        yield record


def predict_records(
    predict: Predict, records: Iterable[TextRecord]
) -> Iterator[tuple[Sequence[Prediction], TextRecord]]:
    """Yield the predictions for each text with its record. Raises PredictionFailed with file and line."""
    waiting: deque[TextRecord] = deque()  # records that `predict` has read and not answered
    answered = 0

    def texts() -> Iterator[str]:
        for record in records:
            waiting.append(record)
            yield record.text

    try:
        for answers in predict(texts()):
            yield answers, waiting.popleft()
            answered += 1
    except PredictionFailed as error:
        failed = waiting[error.index - answered]
        raise PredictionFailed(failed.where, error.index, error.text, error.adapter, error.cause) from error


@contextmanager
def naming_invalid_json(predictions: Sequence[Prediction], record: TextRecord) -> Iterator[None]:
    """Raise PredictionFailed if the block cannot write a prediction because its result is not valid JSON."""
    try:
        yield
    except (TypeError, ValueError) as error:
        for answer in predictions:
            if faults := "; ".join(json_faults(answer.result)):
                cause = f"decode {faults}"
                raise PredictionFailed(record.where, 0, answer.text, answer.adapter, cause) from error
        raise
