"""`adapters predict`: run one or several adapters on texts in one pass, in this process or in a running service.

torch is not imported for a service.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from onetrunk.cli.options import running_options
from onetrunk.cli.output import emit_json, json_line, json_option, note, print_notes, results
from onetrunk.cli.partial_output import partial_output
from onetrunk.cli.prediction_job import PredictionJob, open_backend
from onetrunk.cli.prediction_output import (
    PredictionSummary,
    answers_of,
    format_of,
    naming_invalid_json,
    predict_records,
    write_output,
)
from onetrunk.cli.progress import counting
from onetrunk.cli.reading_options import reading_options
from onetrunk.cli.streams import is_device, whole_file
from onetrunk.core.data.read_options import ReadOptions

if TYPE_CHECKING:
    from onetrunk.adapters.store.store import StoredVersion
    from onetrunk.core.data.notes import Note
    from onetrunk.core.data.texts import TextRecord
    from onetrunk.core.tasks import JSONObject
    from onetrunk.core.tasks.prediction import Prediction

Answered = Callable[[Iterable["JSONObject"]], None]
"""Called with the answers for one text, after they are written."""
Write = Callable[[Sequence["Prediction"], "TextRecord", list["JSONObject"]], object]
"""Writes the predictions of all adapters for one text: (predictions, record of the text, predictions as JSON)."""


@click.command("predict")
@click.argument("refs", metavar="REF[,REF...]")
@click.argument("texts", metavar="[TEXT...|-]", nargs=-1)
@click.option(
    "--input",
    "source",
    metavar="F",
    help="File with texts: JSONL, JSON, CSV or TSV with the key `text`, or .txt with one text per line.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="F",
    help="Write to this file; the suffix .jsonl, .csv or .parquet (extra [parquet]) decides the format.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an interrupted command with the same --output, input and adapters.",
)
@click.option("--url", metavar="URL", help="Predict with the service at this URL; no model is loaded.")
@click.option(
    "--token", "token_file", metavar="FILE", help="File with the token of the service; - for stdin."
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
    **running: Any,
) -> None:
    """Run every adapter REF on each TEXT. Without TEXT, texts are read from stdin, one per line.

    --json prints one line of JSON for each text and adapter, in the order of the input. --output writes the same
    records to a file, and --json then prints only a summary. If a record of --input has keys other than `text`, the
    output has them under the key `input`. An interrupted command keeps its answers next to the output; --resume
    continues it.

    \b
    Example:
      adapters predict ner,sentiment "Ada Lovelace loved London."
      adapters predict ner@prod --input mails.jsonl --output entities.jsonl
      head -100 mails.txt | adapters predict intent --json
      adapters predict ner@prod --input mails.jsonl --url http://127.0.0.1:8080
    """
    stdin = source == "-" or (source is None and texts in ((), ("-",)))
    sink = _Sink(*(running.pop(name) for name in ("output", "resume", "as_json")))
    url, token, reading = (running.pop(name) for name in ("url", "token_file", "reading"))
    _check_url(context, url, token, stdin=stdin, running=running)
    if sink.resume and sink.output is None:
        raise click.UsageError("--resume continues the file of --output; also give --output")
    notes: list[Note] = []
    records = _records(texts, source, reading, notes)
    records = chain(list(islice(records, 1)), records)  # a missing file fails before a model is loaded
    # At a terminal, predict after each line instead of in batches. None: the default number of texts.
    typed = stdin and source is None and sys.stdin.isatty()
    job = PredictionJob(
        context, tuple(ref.strip() for ref in refs.split(",")), url, token, running, 1 if typed else None
    )
    _run(job, records, notes, sink, texts_given(texts))


class _Sink(NamedTuple):
    """Where the answers go.  output: value of --output.  resume, as_json: whether these options are given."""

    output: Path | None
    resume: bool
    as_json: bool


def _run(
    job: PredictionJob, records: Iterator[TextRecord], notes: list[Note], sink: _Sink, given: int | None
) -> None:
    """Predict and print the summary. given: number of texts on the command line, None if they are in a file."""
    print_notes(notes)
    printed, began, summary = len(notes), time.monotonic(), PredictionSummary()
    typed, output = job.chunk == 1, sink.output
    to_file = output is not None and not is_device(output)
    shown = not typed and (output is not None or not results().isatty())
    with counting(given, shown=shown) as advance:

        def answered(answers: Iterable[JSONObject]) -> None:
            summary.add(answers)
            advance(1)

        if output is not None and to_file:
            notes += _to_file(job, records, output, answered, resume=sink.resume)
        else:
            with _printer(output, sink.as_json) as write:
                _predict(job, job.resolve(), records, write, answered)
    print_notes(notes[printed:])  # on the lines that were read since
    seconds = time.monotonic() - began
    if output is not None and to_file and sink.as_json:
        emit_json(summary.to_json(seconds, output, notes))
    elif output is not None or not (typed or given):
        for line in summary.lines(seconds, output):
            note(line)


def _to_file(
    job: PredictionJob, records: Iterator[TextRecord], output: Path, answered: Answered, *, resume: bool
) -> list[Note]:
    """Predict into the file `output`, and return notes on it."""
    form = format_of(output)
    with partial_output(output, resume=resume) as partial:
        versions = job.resolve()
        partial.begin(job.settings(versions))
        for answers in partial.skip(records):
            answered(answers)
        _predict(job, versions, records, lambda _, record, answers: partial.add(record, answers), answered)
        return write_output(output, form, partial.answers)


def _predict(
    job: PredictionJob,
    versions: Sequence[StoredVersion],
    records: Iterable[TextRecord],
    write: Write,
    answered: Answered,
) -> None:
    with open_backend(job, versions) as predict:
        for predictions, record in predict_records(predict, records):
            answers = list(answers_of(predictions, record.extra))
            with naming_invalid_json(predictions, record):
                write(predictions, record, answers)
            answered(answers)


def _check_url(
    context: click.Context, url: str | None, token: str | None, *, stdin: bool, running: Iterable[str]
) -> None:
    """Raise UsageError for options that cannot be combined.

    url, token: values of --url and --token. stdin: whether texts are read from stdin. running: names of the options
    of the encoder in this process.
    """
    if url == "":
        raise click.UsageError("--url is empty; give the URL of a service")
    if url is None and token is not None:
        raise click.UsageError("--token is only for a service; also give --url")
    if token == "-" and stdin:
        raise click.UsageError("stdin cannot hold both the token and the texts; put one of them into a file")
    default = ParameterSource.DEFAULT
    given = [name for name in running if context.get_parameter_source(name) is not default]
    if url is not None and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{options} cannot be combined with --url; the service decides these settings")


def _records(
    texts: Sequence[str], source: str | None, reading: ReadOptions, notes: list[Note]
) -> Iterator[TextRecord]:
    """Return the texts to predict. Raises UsageError unless there is one source. Iterating raises DataError."""
    from onetrunk.core.data.texts import TextRecord, load_unlabelled

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


@contextmanager
def _printer(device: Path | None, as_json: bool) -> Iterator[Write]:
    """Yield a function that prints predictions, or writes them to a device as JSON lines."""
    if device is not None:
        with whole_file(device) as file:
            yield lambda _predictions, _record, answers: file.writelines(
                f"{json_line(each)}\n" for each in answers
            )
    elif as_json:
        yield lambda _predictions, _record, answers: emit_json(*answers)
    else:
        from onetrunk.cli.highlight import Highlighter

        highlighter = Highlighter()
        yield lambda predictions, _record, _answers: highlighter.show(predictions)
