"""`adapters predict`: run one or several adapters on texts in one pass, in this process or in a running service.

torch is not imported for a service.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.remotes.locations import is_location
from onetrunk.cli.backbones import backbone_for
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.options import running_options
from onetrunk.cli.output import emit_json, json_line, json_option, print_notes, results
from onetrunk.cli.progress import counting
from onetrunk.cli.reading_options import reading_options
from onetrunk.cli.sharing import read_token, resolve_version
from onetrunk.cli.streams import whole_file
from onetrunk.cli.threads import use_threads
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.errors import PredictionFailed
from onetrunk.core.tasks.guarded_calls import json_faults

if TYPE_CHECKING:
    from onetrunk.core.data.notes import Note
    from onetrunk.core.data.texts import TextRecord
    from onetrunk.core.tasks import JSONObject
    from onetrunk.core.tasks.prediction import Prediction

Predict = Callable[[Iterable[str]], Iterator[Sequence["Prediction"]]]
"""Predicts a stream of texts: yields the predictions of all adapters for each text. It reads few texts ahead."""
Write = Callable[[Sequence["Prediction"], Mapping[str, Any]], object]
"""Writes the predictions of all adapters for one text. The second argument has the other keys of the record."""


@click.command("predict")
@click.argument("refs", metavar="REF[,REF...]")
@click.argument("texts", metavar="[TEXT...|-]", nargs=-1)
@click.option(
    "--input",
    "source",
    metavar="F",
    help="File with texts: JSONL, JSON, CSV or TSV with the key `text`, or .txt with one text per line.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="F", help="Write JSON lines to this file.")
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
    output: Path | None,
    as_json: bool,
    **running: Any,
) -> None:
    """Run every adapter REF on each TEXT. Without TEXT, texts are read from stdin, one per line.

    --json and --output write one line of JSON for each text and adapter, in the order of the input. If a record of
    --input has keys other than `text`, the output has them under the key `input`.

    \b
    Example:
      adapters predict ner,sentiment "Ada Lovelace loved London."
      adapters predict ner@prod --input mails.jsonl --output entities.jsonl
      head -100 mails.txt | adapters predict intent --json
      adapters predict ner@prod --input mails.jsonl --url http://127.0.0.1:8080
    """
    stdin = source == "-" or (source is None and texts in ((), ("-",)))
    url, token, reading = (running.pop(name) for name in ("url", "token_file", "reading"))
    _check_url(context, url, token, stdin=stdin, running=running)
    notes: list[Note] = []
    records = _records(texts, source, reading, notes)
    records = chain(list(islice(records, 1)), records)  # a missing file fails before a model is loaded
    print_notes(notes)
    # At a terminal, predict after each line instead of in batches. None: the default number of texts.
    chunk = 1 if stdin and source is None and sys.stdin.isatty() else None
    adapters = [ref.strip() for ref in refs.split(",")]
    shown = output is not None or not results().isatty()
    with (
        _writer(output, as_json) as write,
        _backend(context, url, token, adapters, running, chunk) as predict,
        counting(texts_given(texts), shown=shown) as advance,
    ):
        for predictions, record in predict_records(predict, records):
            with _naming_invalid_json(predictions, record):
                write(predictions, record.extra)
            advance(1)


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


@contextmanager
def _backend(
    context: click.Context,
    url: str | None,
    token: str | None,
    references: Sequence[str],
    running: Mapping[str, Any],
    chunk: int | None,
) -> Iterator[Predict]:
    """Yield a function that predicts with the service at `url`, or with an encoder in this process if it is None.

    token: file with the token of the service. running: values of `running_options`. chunk: texts to read ahead.
    Raises UsageError if the adapters need different backbones.
    """
    if url is not None:
        from onetrunk.core.client import Client
        from onetrunk.core.client.requests import CHUNK as SENT

        with Client(url, read_token(token)) as client:
            yield lambda texts: client.predict_stream(texts, references, chunk=chunk or SENT)
        return
    host, choice = plugin_host(context), running["backbone"]
    stored = [resolve_version(host, each, choice) for each in references]
    manifests = {each.ref: read_manifest(each.path) for each in stored}
    backbone = backbone_for(manifests, choice, running["device"], running["precision"])
    print_notes(use_threads(running["threads"], backbone))
    from onetrunk.core.inference.logits import BATCH_TOKENS
    from onetrunk.core.inference.predictor import CHUNK, OneTrunk

    trunk = OneTrunk(backbone, host=host)
    served = [own.ref if is_location(given) else given for given, own in zip(references, stored, strict=True)]
    for reference in served:
        trunk.load(reference)
    tokens = running["batch_tokens"] or BATCH_TOKENS
    yield lambda texts: trunk.predict_stream(texts, served, batch_tokens=tokens, chunk=chunk or CHUNK)


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
def _writer(output: Path | None, as_json: bool) -> Iterator[Write]:
    """Yield a function that prints predictions, or writes them to the file `output`."""
    if output is not None:
        with whole_file(output) as file:
            yield lambda answers, extra: file.writelines(
                f"{json_line(record)}\n" for record in _to_json(answers, extra)
            )
    elif as_json:
        yield lambda answers, extra: emit_json(*_to_json(answers, extra))
    else:
        from onetrunk.cli.highlight import Highlighter

        highlighter = Highlighter()
        yield lambda answers, _extra: highlighter.show(answers)


def _to_json(answers: Sequence[Prediction], extra: Mapping[str, Any]) -> Iterator[JSONObject]:
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
def _naming_invalid_json(predictions: Sequence[Prediction], record: TextRecord) -> Iterator[None]:
    """Raise PredictionFailed if the block cannot write a prediction because its result is not valid JSON."""
    try:
        yield
    except (TypeError, ValueError) as error:
        for answer in predictions:
            if faults := "; ".join(json_faults(answer.result)):
                cause = f"decode {faults}"
                raise PredictionFailed(record.where, 0, answer.text, answer.adapter, cause) from error
        raise
