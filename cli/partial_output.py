"""The answers of an unfinished `adapters predict --output`, kept so that the command can be continued."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from onetrunk.cli.number_format import counted
from onetrunk.cli.output import json_line, note
from onetrunk.cli.streams import clear_errors, open_output
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.core.data.texts import TextRecord
    from onetrunk.core.tasks import JSONObject

SUFFIX = ".partial"
"""Added to the name of the output."""
_HEADER = b'{"adapters": '
"""The beginning of a file of answers."""
_LONGEST_NAME = 255
"""Bytes that a file name may have."""
_PERIOD = 1.0
"""Seconds after which answers are passed to the operating system."""


class PartialOutput:
    """The file of answers. Its first line says how they are made. Each further line is for one text: the hash of
    the input record, then the answers of the adapters as JSON, separated by tabs.

    output: the name of the output, for messages.  path, file: of this file, open for reading and writing.
    answered: the number of texts with answers.
    """

    def __init__(self, output: Path, path: Path, file: BinaryIO) -> None:
        self.output, self.path = output, path
        self.answered = 0
        self._file = file
        self._flushed = time.monotonic()

    def begin(self, settings: Mapping[str, object]) -> None:
        """Start the file, or continue it; a last line that is not complete is removed.

        settings: what the answers depend on, by the name of the option.
        Raises UsageError if the file was made with other settings.
        """
        self._file.seek(0)
        first = self._file.readline()
        if not first:
            self._write(f"{json_line(settings)}\n")
            self._flush()  # a full disk shows before a model is loaded
            return
        try:
            before = json.loads(first)
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise UsageError(f"{self.path} is not an unfinished output of this command; delete it")
        for name, value in settings.items():
            if (old := before.get(name)) != value:
                raise UsageError(
                    f"{self.path} was made with {name} {_plain(old)}, this command has {_plain(value)}; "
                    f"give the same settings, or delete {self.path} to start again"
                )
        end = len(first)
        for line in self._file:
            if line.endswith(b"\n"):
                end += len(line)
                self.answered += 1
        self._file.seek(end)
        self._file.truncate()

    def skip(self, records: Iterator[TextRecord]) -> Iterator[list[JSONObject]]:
        """Take the records that are answered from `records`, and yield their answers.

        Raises UsageError if `records` is not the input of the answers.
        """
        for number, (digest, answers) in enumerate(self._lines(), 1):
            record = next(records, None)
            if record is None or digest != _digest(record):
                where = "the end of the input" if record is None else record.where
                raise UsageError(
                    f"{where}: the input has changed: {self.path} has the answers for another text {number}; "
                    f"give the same input, or delete {self.path} to start again"
                )
            yield [json.loads(answer) for answer in answers]
        self._file.seek(0, os.SEEK_END)

    def add(self, record: TextRecord, answers: Sequence[JSONObject]) -> None:
        """Add the answers for a text. Raises ValueError for an answer that JSON cannot express."""
        self._write("\t".join([_digest(record), *map(json_line, answers)]) + "\n")
        self.answered += 1
        if time.monotonic() - self._flushed > _PERIOD:
            self._flush()

    def answers(self) -> Iterator[str]:
        """Yield all answers as lines of JSON without line ends, in the order of the input."""
        self._flush()
        for _, answers in self._lines():
            yield from answers

    def _lines(self) -> Iterator[tuple[str, list[str]]]:
        self._file.seek(0)
        self._file.readline()
        for line in self._file:
            digest, *answers = line.decode("utf-8").rstrip("\n").split("\t")
            yield digest, answers

    def _write(self, text: str) -> None:
        with clear_errors(str(self.output)):
            self._file.write(text.encode("utf-8"))

    def _flush(self) -> None:
        with clear_errors(str(self.output)):
            self._file.flush()
        self._flushed = time.monotonic()


@contextmanager
def partial_output(output: Path, *, resume: bool) -> Iterator[PartialOutput]:
    """Open the unfinished output of `output`; delete it when the block ends without an error, or without an answer.

    resume: continue the file that an interrupted command has left.
    Raises UsageError if the file cannot be written, if another command writes it, and if there is one without
    `resume`.
    """
    target = Path(os.path.realpath(output))
    path = _path_of(target)
    with clear_errors(str(output)):
        file = open_output(path, private=target.exists())
    with file:
        _lock(file, path)
        found = _has_content(file)
        if found and not resume:
            raise UsageError(
                f"{path} has the answers of an interrupted command; add --resume to continue it, or delete "
                "the file to start again"
            )
        if not found:
            file.seek(0)
            file.truncate()
        partial = PartialOutput(output, path, file)
        try:
            yield partial
        except BaseException:
            _keep(partial, file, found=found)
            raise
        path.unlink(missing_ok=True)


def _has_content(file: BinaryIO) -> bool:
    """Whether the file has more than the first line of a command that ended before its first answer."""
    beginning = file.read(1 << 16)
    header, _, answers = beginning.partition(b"\n")
    return bool(answers) or not (header.startswith(_HEADER) or not beginning)


def _keep(partial: PartialOutput, file: BinaryIO, *, found: bool) -> None:
    """Say how to continue if the file has answers. Delete it if it has none, unless it was `found`."""
    if not partial.answered:
        if not found:
            partial.path.unlink(missing_ok=True)
            _abandon(file)
        return
    kept = f"keeps {counted(partial.answered, 'answered text')}"
    try:
        file.flush()
    except OSError:  # the disk is full; the error that ended the command says so
        kept = "keeps the first answers"
        _abandon(file)
    note(f"{partial.path} {kept}; run the command again with --resume to continue")


def _abandon(file: BinaryIO) -> None:
    """Let the buffer of `file` be lost, so that closing it does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def _path_of(target: Path) -> Path:
    name = f"{target.name}{SUFFIX}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(target.name)).hexdigest() + SUFFIX
    return target.with_name(name)


def _lock(file: BinaryIO, path: Path) -> None:
    """Raise UsageError if another process has the file open. Windows does this by itself."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"another command is writing {path}; wait for it, or choose another --output"
        ) from error


def _digest(record: TextRecord) -> str:
    content: list[Any] = [record.text, dict(record.extra)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "no value" if value is None else str(value)
