"""Push: publishes a version of the store as one commit on a branch of the Hub or of a shared folder."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from contextlib import suppress
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
_HELD_OUT = tuple(reversed(SPLITS[1:]))  # test, then dev


@dataclass(frozen=True, slots=True)
class Requirement:
    """A condition on a metric of held-out data, such as `f1>=0.9`. sign: `>=`, `<=`, `>` or `<`."""

    metric: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Return the requirement that `text` states. Raises UsageError if it is not valid."""
        if match := _REQUIREMENT.fullmatch(text):
            with suppress(ValueError):
                return cls(match[1], match[2], float(match[3]))
        raise UsageError(f"invalid requirement {text!r}; expected METRIC>=NUMBER, such as f1>=0.9")

    def fault(self, manifest: Manifest) -> str | None:
        """Return the reason why the adapter does not meet the condition; None if it meets it."""
        split, metrics = held_out_metrics(manifest)
        value = metrics.get(self.metric)
        wanted = f"{self.metric} {self.sign} {self.bound:g}"
        if not isinstance(value, int | float) or isinstance(value, bool):
            known = ", ".join(key for key, each in metrics.items() if isinstance(each, int | float)) or "none"
            return f"{wanted} is required, but its metrics on held-out data are {known}"
        if _SIGNS[self.sign](value, self.bound):
            return None
        return f"{wanted} is required, but on {split} it is {value:.4f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """Options of a push.

    message: the commit message; None for the reference of the version.
    private: whether a new repo is private.
    pull_request: open a pull request instead of pushing to the branch.
    require: conditions that the adapter must meet.
    force: publish even if the adapter on the branch has a better value of the metric `TaskSpec.primary`, or if the
        value is 0 or missing.
    allow_unevaluated: publish even if there are no metrics of held-out data.
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

    files: the content of each file by name.
    parent: the id of the newest commit of the branch; None for a new branch.
    unchanged: whether the branch already has exactly these files.
    notes: what the user should know, such as that the adapter could not be compared with the published one.
    """

    stored: StoredVersion
    files: Mapping[str, bytes]
    parent: str | None
    unchanged: bool
    notes: tuple[str, ...] = ()


def check_push(stored: StoredVersion, spec: TaskSpec, remote: Remote, options: PushOptions) -> PreparedPush:
    """Check a version and compare it with the adapter on the branch; return the push to make. Changes nothing.

    Raises PublishError with all reasons why the version must not be published; ArtifactError, RemoteError.
    """
    if remote.location.folder:
        raise PublishError(
            f"{stored.ref} was not published: {remote.location} is a folder of a repo, but an adapter is published "
            f"as a repo of its own; push to another repo than {remote.location.place}"
        )
    artifact = stored.read()
    faults = [fault for each in options.require if (fault := each.fault(artifact.manifest))]
    if not held_out_metrics(artifact.manifest)[1] and not options.allow_unevaluated:
        faults.append(
            "it has no metrics on held-out data; train it with --dev or --test, or give --allow-unevaluated"
        )
    if not options.force:
        faults += _faults_of_metric(artifact.manifest, spec.primary)
    head: Commit | None = None
    notes: list[str] = []
    with suppress(RemoteNotFound):
        head = remote.commit(options.branch)
    if head is not None and (published := _published_manifest(remote, head)) is not None:
        worse, notes = _compared(artifact.manifest, published, spec)
        if published.task != artifact.manifest.task or not options.force:
            faults += worse
        else:
            notes += [f"published because of --force: {each}" for each in worse]
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
    files = _files_to_publish(stored, artifact, facts, spec.primary)
    unchanged = head is not None and _holds(head, remote, files)
    return PreparedPush(stored, files, None if head is None else head.id, unchanged, tuple(notes))


def publish(push: PreparedPush, remote: Remote, folder: Path, options: PushOptions) -> Published:
    """Make the commit, and the tag if there is one. Raises RemoteError.

    folder: an empty folder for temporary files.
    """
    for name, data in push.files.items():
        (folder / name).write_bytes(data)
    done = remote.publish(
        {name: folder / name for name in push.files},
        branch=options.branch,
        parent=push.parent,
        message=options.message or push.stored.ref,
        pull_request=options.pull_request,
    )
    if options.tag is not None:
        remote.tag(options.tag, done.commit)
    return done


def held_out_metrics(manifest: Manifest) -> tuple[str, Mapping[str, Any]]:
    """Return `test` or `dev`, the first of them that has metrics, and these metrics; `test` and {} without any."""
    for split in _HELD_OUT:
        if metrics := manifest.metrics.get(split):
            return split, metrics
    return "test", {}


def _files_to_publish(
    stored: StoredVersion, artifact: Artifact, facts: CardFacts, primary: str
) -> dict[str, bytes]:
    """Return the files of the version, a new model card, and a plot of the primary metric if there is a history."""
    files = {name: (stored.path / name).read_bytes() for name in artifact.manifest.files if name != CARD}
    history = [strict_json.parse(line) for line in files.get(HISTORY, b"").splitlines()]
    if (picture := training_curve(history, primary)) is not None:
        files[PICTURE] = picture
    files[CARD] = render_card(replace(facts, has_picture=PICTURE in files)).encode("utf-8")
    records = {name: FileRecord(sha256=sha256(data), bytes=len(data)) for name, data in files.items()}
    files[TASK] = strict_json.dump(artifact.manifest.with_files(records).to_json())
    return files


def _published_manifest(remote: Remote, head: Commit) -> Manifest | None:
    """Return the manifest of the adapter in a commit; None if the commit has no adapter.

    Raises PublishError if the manifest cannot be read, or if the commit has files that are not of an adapter.
    """
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
            f"{remote.location} has files that are not of an adapter ({first_few(foreign, 5)}); push to another "
            "repo or branch"
        )
    return None


def _faults_of_metric(manifest: Manifest, primary: str) -> list[str]:
    """Return the reason why an adapter with these metrics must not be published; [] if there is none."""
    split, metrics = held_out_metrics(manifest)
    value = _number(metrics, primary)
    if not metrics or value:
        return []
    said = "missing or undefined" if value is None else "0"
    return [f"its {primary} on {split} is {said}; train it again, or publish it anyway with --force"]


def _compared(own: Manifest, published: Manifest, spec: TaskSpec) -> tuple[list[str], list[str]]:
    """Return the reasons why an adapter must not replace the published one, and notes."""
    if published.task != own.task:
        fault = f"the remote has an adapter for {published.task}, this one is for {own.task}"
        return [f"{fault}; push to another repo"], []
    metric, unmeasured = spec.primary, True
    for split in _HELD_OUT:
        new, old = (_number(each.metrics.get(split, {}), metric) for each in (own, published))
        if new is None or old is None:
            continue
        unmeasured = False
        data, published_data = own.data.get(split), published.data.get(split)
        if data is None or published_data is None or data.sha256 != published_data.sha256:
            continue
        worse = (
            f"on the same {split} data its {metric} is {new:.4f}, and that of the published adapter is {old:.4f}; "
            "--force publishes it anyway"
        )
        return ([] if new >= old else [worse]), []
    why = f"not both have {metric} on dev or test" if unmeasured else "they were measured on different data"
    return [], [f"it could not be compared with the published adapter: {why}"]


def _number(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _notes(remote: Remote, head: Commit) -> str | None:
    """Return the text that users have written into the published card; None if there is none."""
    if CARD not in head.files:
        return None
    return user_text(remote.fetch(head, CARD, strict_json.MAX_BYTES, ignore).decode("utf-8", "replace"))


def _holds(head: Commit, remote: Remote, files: Mapping[str, bytes]) -> bool:
    """Tell whether a commit has exactly these files."""
    if {name for name in head.files if not name.startswith(".")} != files.keys():
        return False
    if not all(head.files[name].matches(data) for name, data in files.items()):
        return False
    # The Hub computes hashes from the content of files. Files without such a hash are read and compared.
    in_folder = remote.location.kind == "folder"
    unsure = [name for name in files if in_folder or not (head.files[name].sha256 or head.files[name].blob)]
    try:
        return all(remote.fetch(head, name, len(files[name]), ignore) == files[name] for name in unsure)
    except RemoteDamaged:
        return False
