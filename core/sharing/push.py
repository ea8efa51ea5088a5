"""Push: publishes a version of the store as one commit on a branch of a remote."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onetrunk.adapters.card import CardFacts, CardMetadata, render_card, training_curve, user_text
from onetrunk.adapters.errors import ArtifactError, PublishError, RemoteDamaged, RemoteNotFound, first_few
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.artifact import CARD, HISTORY, PICTURE, TASK, WEIGHTS, Artifact
from onetrunk.adapters.format.files import sha256
from onetrunk.adapters.format.manifest import SPLITS, FileRecord, Manifest
from onetrunk.adapters.remotes.remote import MAIN, Commit, Published, Remote
from onetrunk.adapters.store.store import StoredVersion
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.logits import ignore
from onetrunk.core.tasks import TaskSpec

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*(>=|<=|>|<)\s*([-+0-9.eE]+)\s*")
_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_HELD_OUT = tuple(reversed(SPLITS[1:]))  # test is preferred to dev


@dataclass(frozen=True, slots=True)
class Requirement:
    """A condition on a metric on held-out data, such as `f1>=0.9`.

    sign: `>=`, `<=`, `>` or `<`.
    """

    metric: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Parse `f1>=0.9`. Raises UsageError."""
        match = _REQUIREMENT.fullmatch(text)
        try:
            bound = float(match[3]) if match else None
        except ValueError:
            bound = None
        if match is None or bound is None:
            raise UsageError(f"invalid requirement {text!r}; expected METRIC>=NUMBER, such as f1>=0.9")
        return cls(match[1], match[2], bound)

    def fault(self, manifest: Manifest) -> str | None:
        """Return why the adapter does not meet the condition; None if it does."""
        split, metrics = held_out_metrics(manifest)
        value = metrics.get(self.metric)
        wanted = f"{self.metric} {self.sign} {self.bound:g}"
        if not isinstance(value, int | float) or isinstance(value, bool):
            known = ", ".join(key for key, each in metrics.items() if isinstance(each, int | float)) or "none"
            return f"{wanted} is required, but its metrics on held-out data are {known}"
        return (
            None
            if _SIGNS[self.sign](value, self.bound)
            else f"{wanted} is required, but on {split} it is {value:.4f}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """Options of a push.

    branch, tag, message: of the commit, as in git; `message` is the adapter's reference by default.
    private: create a private repo.
    pull_request: make a pull request instead of moving the branch.
    require: conditions on metrics.
    force: publish even if the adapter at the remote has a better primary metric.
    allow_unevaluated: publish without metrics on held-out data.
    card: metadata for the card.
    """

    branch: str = MAIN
    tag: str | None = None
    message: str | None = None
    private: bool = False
    pull_request: bool = False
    require: tuple[Requirement, ...] = ()
    force: bool = False
    allow_unevaluated: bool = False
    card: CardMetadata = field(default_factory=CardMetadata)


@dataclass(frozen=True, slots=True)
class PreparedPush:
    """A push that has passed all checks.

    stored: the version to publish.
    files: content of each file by name.
    parent: id of the branch's head; None for a new branch.
    unchanged: whether the branch has exactly these files already.
    """

    stored: StoredVersion
    files: Mapping[str, bytes]
    parent: str | None
    unchanged: bool


def check_push(stored: StoredVersion, spec: TaskSpec, remote: Remote, options: PushOptions) -> PreparedPush:
    """Verify the version, compare it with the remote, and return the push to make. Changes nothing.

    Raises PublishError with all reasons why it must not be published, ArtifactError, RemoteError.
    """
    artifact = stored.read()
    faults = [fault for each in options.require if (fault := each.fault(artifact.manifest))]
    if not held_out_metrics(artifact.manifest)[1] and not options.allow_unevaluated:
        faults.append(
            "it has no metrics on held-out data; train it with --dev or --test, or give --allow-unevaluated"
        )
    head = _head(remote, options.branch)
    there = None if head is None else _adapter_there(remote, head)
    if there is not None:
        faults += _compared(artifact.manifest, there, spec, options)
    if faults:
        raise PublishError(f"{stored.ref} was not published: {'; '.join(faults)}")
    facts = CardFacts(
        name=stored.name,
        manifest=artifact.manifest,
        summary=spec.summary,
        repo=remote.location.place if remote.location.kind == "hub" else None,
        metadata=options.card,
        weight_bytes=sum(record.bytes for name, record in artifact.manifest.files.items() if name in WEIGHTS),
        notes=None if head is None else _notes(remote, head),
    )
    files = _published_files(stored, artifact, facts, spec.primary)
    same = head is not None and _holds(head, remote, files)
    return PreparedPush(stored, files, None if head is None else head.id, unchanged=same)


def publish(push: PreparedPush, remote: Remote, folder: Path, options: PushOptions) -> Published:
    """Make the commit, and the tag. folder: an empty folder for temporary files. Raises RemoteError."""
    paths = {name: folder / name for name in push.files}
    for name, data in push.files.items():
        paths[name].write_bytes(data)
    message = options.message or push.stored.ref
    done = remote.publish(
        paths,
        branch=options.branch,
        parent=push.parent,
        message=message,
        pull_request=options.pull_request,
    )
    if options.tag is not None:
        remote.tag(options.tag, done.commit)
    return done


def held_out_metrics(manifest: Manifest) -> tuple[str, Mapping[str, Any]]:
    """Return the held-out split that has metrics, test before dev, and its metrics; `test` and {} without any."""
    for split in _HELD_OUT:
        if metrics := manifest.metrics.get(split):
            return split, metrics
    return "test", {}


def _published_files(
    stored: StoredVersion, artifact: Artifact, facts: CardFacts, primary: str
) -> dict[str, bytes]:
    """Return the files to publish: those of the version, a new card, and a picture of the primary metric."""
    files = {name: (stored.path / name).read_bytes() for name in artifact.manifest.files if name != CARD}
    history = [strict_json.parse(line) for line in files.get(HISTORY, b"").splitlines()]
    if (picture := training_curve(history, primary)) is not None:
        files[PICTURE] = picture
    files[CARD] = render_card(replace(facts, has_picture=PICTURE in files)).encode("utf-8")
    records = {name: FileRecord(sha256=sha256(data), bytes=len(data)) for name, data in files.items()}
    files[TASK] = strict_json.dump(artifact.manifest.with_files(records).to_json())
    return files


def _head(remote: Remote, branch: str) -> Commit | None:
    try:
        return remote.commit(branch)
    except RemoteNotFound:
        return None


def _adapter_there(remote: Remote, head: Commit) -> Manifest | None:
    """Return the manifest of the adapter on a branch; None if the branch is empty. Raises PublishError."""
    if TASK in head.files:
        data = remote.fetch(head, TASK, strict_json.MAX_BYTES, ignore)
        try:
            return Manifest.from_json(strict_json.parse(data), Path(TASK))
        except (ArtifactError, ValueError) as error:
            raise PublishError(
                f"{remote.location} has a {TASK} that cannot be read ({error}); push to another repo or branch"
            ) from error
    if foreign := sorted(name for name in head.files if name != CARD and not name.startswith(".")):
        raise PublishError(
            f"{remote.location} holds files that are not of an adapter ({first_few(foreign, 5)}); push to another "
            "repo or branch"
        )
    return None


def _compared(own: Manifest, there: Manifest, spec: TaskSpec, options: PushOptions) -> list[str]:
    """Return the reasons why an adapter must not replace the one at the remote."""
    if there.task != own.task:
        return [
            f"the remote has an adapter for {there.task}, this one is for {own.task}; push to another repo"
        ]
    split, metrics = held_out_metrics(own)
    before = there.metrics.get(split, {})
    same_data = (
        split in own.data and split in there.data and own.data[split].sha256 == there.data[split].sha256
    )
    new, old = metrics.get(spec.primary), before.get(spec.primary)
    if options.force or not same_data or not isinstance(new, int | float) or not isinstance(old, int | float):
        return []
    if new >= old:
        return []
    return [
        f"on the same {split} data its {spec.primary} is {new:.4f}, and {old:.4f} at the remote; --force "
        "publishes it nevertheless"
    ]


def _notes(remote: Remote, head: Commit) -> str | None:
    """Return the user's text in the card at the remote; None without any."""
    if CARD not in head.files:
        return None
    return user_text(remote.fetch(head, CARD, strict_json.MAX_BYTES, ignore).decode("utf-8", "replace"))


def _holds(head: Commit, remote: Remote, files: Mapping[str, bytes]) -> bool:
    """Tell whether a commit has exactly these files."""
    if {name for name in head.files if not name.startswith(".")} != files.keys():
        return False
    if not all(head.files[name].matches(data) for name, data in files.items()):
        return False
    # The Hub computes its hashes from the content. Files without such a hash are read and compared.
    in_folder = remote.location.kind == "folder"
    unsure = [name for name in files if in_folder or not (head.files[name].sha256 or head.files[name].blob)]
    try:
        return all(remote.fetch(head, name, len(files[name]), ignore) == files[name] for name in unsure)
    except RemoteDamaged:
        return False
