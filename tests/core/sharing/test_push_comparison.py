"""A push compares the metrics of the adapter with those of the published one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.errors import PublishError
from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.remotes.remote import Remote
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.push import PreparedPush, PushOptions, check_push, publish

SPEC = PluginHost.discover().task("sentiment")
Version = Callable[..., StoredVersion]
A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def trained(
    bert: Backbone, train_tiny: Callable[..., object], tmp_path_factory: pytest.TempPathFactory
) -> StoredVersion:
    store = Store(tmp_path_factory.mktemp("trained"))
    train_tiny(store, "sentiment", bert, name="mood")
    return store.resolve("mood")


@pytest.fixture
def version(trained: StoredVersion, tmp_path: Path) -> Version:
    """Return (split=(sha256 of its data, accuracy), …) → a version with these metrics."""
    store = Store(tmp_path / "store")

    def call(**splits: tuple[str, float | None]) -> StoredVersion:
        def write(folder: Path) -> None:
            shutil.copytree(trained.path, folder, dirs_exist_ok=True)
            record: dict[str, Any] = json.loads((folder / "task.json").read_text())
            record["metrics"] = {split: {"accuracy": value} for split, (_, value) in splits.items()}
            record["data"] = {
                split: {"sha256": sha256, "rows": 4, "source": "x"} for split, (sha256, _) in splits.items()
            }
            (folder / "task.json").write_text(json.dumps(record))

        return store.add("mood", write)

    return call


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    found = open_remote(Location.parse((tmp_path / "shared").as_uri()))
    found.create(private=False)
    return found


def push(stored: StoredVersion, remote: Remote, folder: Path, **options: Any) -> PreparedPush:
    chosen = PushOptions(**options)
    prepared = check_push(stored, SPEC, remote, chosen)
    aside = folder / stored.ref
    aside.mkdir()
    publish(prepared, remote, aside, chosen)
    return prepared


@pytest.mark.parametrize("split", ["dev", "test"])
def test_what_is_worse_on_the_same_data_is_refused(
    split: str, version: Version, remote: Remote, tmp_path: Path
) -> None:
    push(version(**{split: (A, 0.9)}), remote, tmp_path)
    worse = version(**{split: (A, 0.8)})
    reason = f"on the same {split} data its accuracy is 0.8000, and that of the published adapter is 0.9000"
    with pytest.raises(PublishError, match=reason):
        check_push(worse, SPEC, remote, PushOptions())
    (note,) = push(worse, remote, tmp_path, force=True).notes
    assert note.startswith("published because of --force: on the same")


def test_what_is_not_worse_is_published_without_a_note(
    version: Version, remote: Remote, tmp_path: Path
) -> None:
    push(version(test=(A, 0.9)), remote, tmp_path)
    for value in (0.9, 0.95):
        assert push(version(test=(A, value)), remote, tmp_path).notes == ()


def test_dev_is_compared_if_test_has_other_data(version: Version, remote: Remote, tmp_path: Path) -> None:
    push(version(dev=(A, 0.9), test=(A, 0.5)), remote, tmp_path)
    with pytest.raises(PublishError, match=r"on the same dev data its accuracy is 0\.8000"):
        check_push(version(dev=(A, 0.8), test=(B, 0.6)), SPEC, remote, PushOptions())


@pytest.mark.parametrize(
    ("splits", "why"),
    [
        ({"test": (B, 0.1)}, "they were measured on different data"),
        ({"dev": (A, 0.1)}, "not both have accuracy on dev or test"),
    ],
    ids=["other data", "other split"],
)
def test_what_cannot_be_compared_is_published_and_said(
    splits: dict[str, Any], why: str, version: Version, remote: Remote, tmp_path: Path
) -> None:
    push(version(test=(A, 0.9)), remote, tmp_path)
    assert push(version(**splits), remote, tmp_path).notes == (
        f"it could not be compared with the published adapter: {why}",
    )


@pytest.mark.parametrize(("value", "said"), [(0.0, "is 0"), (None, "is missing or undefined")])
def test_a_main_metric_of_0_or_none_is_refused(
    value: float | None, said: str, version: Version, remote: Remote, tmp_path: Path
) -> None:
    bad = version(test=(A, value))
    with pytest.raises(
        PublishError, match=f"its accuracy on test {said}; train it again, or .* with --force"
    ):
        check_push(bad, SPEC, remote, PushOptions())
    push(bad, remote, tmp_path, force=True)


def test_an_adapter_without_metrics_needs_its_own_permission(
    version: Version, remote: Remote, tmp_path: Path
) -> None:
    bare = version()
    with pytest.raises(PublishError, match="it has no metrics on held-out data"):
        check_push(bare, SPEC, remote, PushOptions(force=True))
    push(bare, remote, tmp_path, allow_unevaluated=True)
