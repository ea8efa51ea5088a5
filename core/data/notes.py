"""Notes: what the user should know about the data, although it is no error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from onetrunk.core.tasks import JSONObject, TaskNote


@dataclass(frozen=True, slots=True)
class Note:
    """One note on a data set. It is printed as one line on stderr, and is in `--json` under `notes`.

    kind: a fixed identifier for programs, such as `same-text-two-labels`.
    message: one sentence with the count, such as "3 texts have two labels".
    source: the file, or the data set, that the note is about.
    count: the number of rows, entities or labels concerned; 0 if nothing is counted.
    where: `file:line` of the first one; "" if no line can be named.
    """

    kind: str
    message: str
    source: str = ""
    count: int = 0
    where: str = ""

    def __str__(self) -> str:
        source = f"{self.source}: " if self.source else ""
        return f"note: {source}{self.message}{f'; first: {self.where}' if self.where else ''}"

    def to_json(self) -> JSONObject:
        """Return all fields."""
        return asdict(self)


@dataclass(slots=True)
class NoteTally:
    """Counts what records have in common, for one note each. found: count and first place by kind and message."""

    found: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, message: str, where: str, count: int = 1) -> None:
        """Count `count` more cases, the first of them at `where`."""
        before, first = self.found.get((kind, message), (0, where))
        self.found[kind, message] = before + count, first

    def notes(self, source: str) -> list[Note]:
        """Return one note a kind and message, such as "relations are ignored: 3"."""
        return [
            Note(kind, f"{message}: {count}", source, count, where)
            for (kind, message), (count, where) in self.found.items()
        ]


def task_notes(notes: Iterable[TaskNote], source: str) -> list[Note]:
    """Return the notes of a task on the data set `source`."""
    return [Note(each.kind, each.message, source, each.count, each.where) for each in notes]
