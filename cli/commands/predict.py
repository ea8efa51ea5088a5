"""`adapters predict`: run one or several adapters on texts in one pass."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onetrunk.cli.options import running_options
from onetrunk.cli.output import emit_json, json_line, json_option, print_notes, results, whole_file
from onetrunk.cli.predict_backend import Predict, PredictBackend, open_backend
from onetrunk.cli.progress import counting
from onetrunk.cli.reading_options import reading_options
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.errors import PredictionFailed
from onetrunk.core.tasks.guarded_calls import json_faults

if TYPE_CHECKING:
    from onetrunk.core.data.dataset import TextRecord
    from onetrunk.core.data.notes import Note
    from onetrunk.core.tasks import JSONObject
    from onetrunk.core.tasks.prediction import Prediction

Write = Callable[[Sequence["Prediction"], Mapping[str, Any]], object]
"""Writes the predictions of all adapters for one text. The second argument has the extra keys of its record."""


@click.command("predict")
@click.argument("refs", metavar="REF[,REF...]")
@click.argument("texts", metavar="[TEXT...|-]", nargs=-1)
@click.option(
    "--input",
    "source",
    metavar="F",
    help="File with texts: JSONL, JSON, CSV or TSV with the key `text`, or .txt with one text a line.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="F", help="Write JSON lines to this file.")
@click.option(
    "--url", metavar="URL", help="Send the texts to the running service at this URL; no model is loaded."
)
@click.option(
    "--token", "token_file", metavar="FILE", help="File with the token for the service; - reads stdin."
)
@running_options
@reading_options("format", "encoding", "delimiter", "quoting", "text_column")
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    refs: str,
    texts: tuple[str, ...],
    source: str | None,
    output: Path | None,
    as_json: bool,
    **running: Any,
) -> None:
    """Run every adapter REF on each TEXT. Without TEXT, texts are read from stdin, one per line.

    --json and --output write one line of JSON for each text and adapter, in the order of the input. Other keys of
    an input record are returned under "input".

    \b
    Example:
      adapters predict ner,sentiment "Ada Lovelace loved London."
      adapters predict ner@prod --input mails.jsonl --output entities.jsonl
      head -100 mails.txt | adapters predict intent --json
      adapters predict ner@prod --input mails.jsonl --url http://127.0.0.1:8080
    """
    stdin = source == "-" or (source is None and texts in ((), ("-",)))
    reading: ReadOptions = running.pop("reading")
    backend = PredictBackend(running.pop("url"), running.pop("token_file"))
    backend.check(context, running, stdin=stdin)
    notes: list[Note] = []
    records = _begun(_records(texts, source, reading, notes))
    print_notes(notes)
    # At a terminal, predict after each line instead of in batches.
    chunk = 1 if stdin and source is None and sys.stdin.isatty() else None
    adapters = [ref.strip() for ref in refs.split(",")]
    shown = output is not None or not results().isatty()
    with (
        _writer(output, as_json) as write,
        open_backend(backend, context, adapters, running, chunk) as predict,
        counting(texts_given(texts), shown=shown) as advance,
    ):
        for predictions, record in predict_records(predict, records):
            with _naming_what_is_not_json(predictions, record):
                write(predictions, record.extra)
            advance(1)


def _records(
    texts: Sequence[str], source: str | None, reading: ReadOptions, notes: list[Note]
) -> Iterator[TextRecord]:
    """Return the texts to predict. Raises UsageError unless there is one source; DataError on iteration."""
    from onetrunk.core.data.dataset import TextRecord, load_unlabelled

    if source == "":
        raise click.UsageError("--input has an empty file name; give the name of a file")
    if source is not None and texts:
        raise click.UsageError("give either texts or --input, not both")
    if "-" in texts and len(texts) > 1:
        raise click.UsageError(
            "'-' reads stdin and cannot be combined with other texts; put the texts into a file for --input"
        )
    if texts and texts != ("-",):
        return (TextRecord(text, {}, f"text {number}") for number, text in enumerate(texts, 1))
    if source is None and not texts and sys.stdin.isatty():
        raise click.UsageError("no text given; give texts, '-' to type them, or a file with --input")
    return load_unlabelled(source or "-", reading, notes)


def texts_given(texts: Sequence[str]) -> int | None:
    """Return the number of texts on the command line, None if they come from stdin or a file."""
    return None if tuple(texts) in ((), ("-",)) else len(texts)


def _begun(records: Iterator[TextRecord]) -> Iterator[TextRecord]:
    """Return `records` after reading the first one, so that a missing file fails before a model is loaded."""
    return chain(list(islice(records, 1)), records)


@contextmanager
def _writer(output: Path | None, as_json: bool) -> Iterator[Write]:
    """Yield a function that prints predictions, or writes them to `output`, which appears when it is complete."""
    if output is not None:
        with whole_file(output) as file:
            yield lambda answers, extra: file.writelines(
                f"{json_line(record)}\n" for record in _to_json(answers, extra)
            )
    elif as_json:
        yield _print_json
    else:
        from onetrunk.cli.highlight import Highlighter

        highlighter = Highlighter()
        yield lambda answers, _extra: highlighter.show(answers)


def _print_json(answers: Sequence[Prediction], extra: Mapping[str, Any]) -> None:
    for record in _to_json(answers, extra):
        emit_json(record)


def _to_json(answers: Sequence[Prediction], extra: Mapping[str, Any]) -> Iterator[JSONObject]:
    for answer in answers:
        record = answer.to_json()
        if extra:
            record.setdefault("input", dict(extra))  # an `input` key of the task's result is not overwritten
        yield record


def predict_records(
    predict: Predict, records: Iterable[TextRecord]
) -> Iterator[tuple[Sequence[Prediction], TextRecord]]:
    """Yield the predictions for each text with its record. Raises PredictionFailed with file and line."""
    waiting: deque[TextRecord] = deque()
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
def _naming_what_is_not_json(predictions: Sequence[Prediction], record: TextRecord) -> Iterator[None]:
    """Raise PredictionFailed where an answer cannot be written because a task gives what is not JSON."""
    try:
        yield
    except (TypeError, ValueError) as error:
        for answer in predictions:
            if faults := "; ".join(json_faults(answer.result)):
                cause = f"decode {faults}"
                raise PredictionFailed(record.where, 0, answer.text, answer.adapter, cause) from error
        raise
