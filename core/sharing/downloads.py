"""Downloads files of a commit into a folder of the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.artifact import CARD, MODEL, TASK, size_limit
from onetrunk.adapters.format.files import sha256, write_new
from onetrunk.adapters.format.manifest import FileRecord, Manifest
from onetrunk.adapters.remotes.remote import Commit, OnBytes, Remote
from onetrunk.adapters.store.staging import writing


@dataclass(frozen=True, slots=True)
class Download:
    """The download of a commit.

    root: the folder of the store, for messages.
    advance: called with the number of bytes of each downloaded part.
    """

    root: Path
    remote: Remote
    commit: Commit
    advance: OnBytes

    def fetch(self, folder: Path, names: Iterable[str], limit: int | None = None) -> None:
        """Download the files `names`, as far as the commit has them, into `folder`.

        limit: the largest size of a file in bytes; None for that of the format.
        Raises RemoteError, StoreError.
        """
        for name in names:
            if name in self.commit.files:
                data = self.remote.fetch(self.commit, name, limit or size_limit(name), self.advance)
                with writing(self.root):
                    write_new(folder / name, data)

    def fetch_peft(self, folder: Path) -> None:
        """Download the files of a plain PEFT adapter. Raises RemoteError if its only weights are a pickle."""
        from onetrunk.core.interop.import_peft import FILES, PICKLE
        from onetrunk.core.interop.import_tokenizer import MAX_TOKENIZER, TOKENIZER_FILES

        if MODEL not in self.commit.files and PICKLE in self.commit.files:
            raise RemoteError(
                str(self.remote.location),
                f"its only weights are {PICKLE}, a pickle, which can run code and is never read",
            )
        self.fetch(folder, [name for name in FILES if name not in TOKENIZER_FILES])
        self.fetch(folder, TOKENIZER_FILES, MAX_TOKENIZER)


def adopt_card(folder: Path, manifest: Manifest) -> bool:
    """If the card was edited on the Hub, record the new card in task.json. Return whether it was edited."""
    path, record = folder / CARD, manifest.files.get(CARD)
    if record is None or not path.is_file():
        return False
    data = path.read_bytes()
    if sha256(data) == record.sha256:
        return False
    files = {**manifest.files, CARD: FileRecord(sha256=sha256(data), bytes=len(data))}
    (folder / TASK).unlink()
    write_new(folder / TASK, strict_json.dump(manifest.with_files(files).to_json()))
    return True
