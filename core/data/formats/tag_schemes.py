"""Tags without prefixes or types, which are given both: one decision for a file, with a note."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from onetrunk.core.data.notes import Note, NoteTally
from onetrunk.core.tasks.iob2 import ONE_TYPE, TAGS_EXPECTED, TagScheme, scheme_of, with_prefixes

_MESSAGES = {
    "letters": f"sentences have tags without a type, such as B; the type is named {ONE_TYPE}",
    "types": "sentences have tags without a prefix such as B-; equal tags in a row are read as one entity",
}


@dataclass(slots=True)
class FileTags:
    """The tags of one file. scheme: of the first sentence with an entity; None before."""

    scheme: TagScheme | None = None
    _tally: NoteTally = field(default_factory=NoteTally)

    def decide(self, tags: Iterable[str]) -> None:
        """Take the scheme of the tags of a sentence, if none is known yet."""
        if self.scheme is None:
            found = {_scheme_or_none(tag) for tag in tags}
            self.scheme = next((each for each in ("prefixed", "types", "letters") if each in found), None)

    def fits(self, tag: str) -> bool:
        """Return whether `tag` is one of the scheme."""
        own = _scheme_or_none(tag)
        fitting = (self.scheme or "prefixed", "letters" if self.scheme == "types" else None)
        return tag == "O" or (own is not None and own in fitting)

    def prefixed(self, tags: Sequence[str], where: str) -> Sequence[str]:
        """Return the tags of a sentence with prefix and type. Raises ValueError for a tag that does not fit."""
        self.decide(tags)
        if self.scheme in (None, "prefixed"):
            return tags  # `to_iob2` checks them
        wrong = next((tag for tag in tags if not self.fits(tag)), None)
        if wrong is not None:
            raise ValueError(f"the tag {wrong!r} does not fit those before it; expected {TAGS_EXPECTED}")
        if any(tag != "O" for tag in tags):
            self._tally.add("tag-scheme", _MESSAGES[self.scheme], where)
        return with_prefixes(tags, self.scheme)

    def notes(self, source: str) -> list[Note]:
        """Return the notes on `source`."""
        return self._tally.notes(source)


def _scheme_or_none(tag: str) -> TagScheme | None:
    try:
        return scheme_of(tag)
    except ValueError:
        return None
