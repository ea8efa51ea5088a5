"""Whether a trained version becomes the current one of its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.tasks import Record
from onetrunk.core.training.promotion import CurrentVersion, Promotion, decide
from onetrunk.core.training.settings import Promote, TrainSettings

Train = Callable[..., Any]
GOOD: dict[str, Any] = {"epochs": 8, "promote": "better"}
BAD: dict[str, Any] = {"epochs": 1, "lr": 1e-9, "head_lr": 1e-9, "promote": "better"}

RARE = [{"words": ["the", "film", "was", "very", "good"] * 4, "tags": ["O"] * 19 + ["B-PER"]}] * 8
NOTHING: dict[str, Any] = {"epochs": 2, "promote": "better", "rows": RARE}
"""A run that learns that no word is an entity."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def promotion(
    store: Store, bert: Backbone, train_tiny: Train, task: str = "ner", **settings: Any
) -> Promotion:
    found = train_tiny(store, task, bert, name="people", **settings).promotion
    assert isinstance(found, Promotion)
    return found


def test_a_worse_version_is_stored_and_the_name_keeps_its_meaning(
    store: Store, bert: Backbone, train_tiny: Train
) -> None:
    promotion(store, bert, train_tiny, **GOOD)
    worse = train_tiny(store, "ner", bert, name="people", **BAD)
    assert store.resolve("people").ref == "people@1"
    assert store.resolve("people@latest").ref == "people@2"
    found = worse.promotion
    assert (found.promoted, found.previous) == (False, "people@1")
    assert found.metrics["dev"]["f1"] == store.resolve("people@1").read().manifest.metrics["dev"]["f1"] > 0.5
    (note,) = [each for each in worse.notes if each.kind == "not-promoted"]
    assert "people still means people@1" in str(note)
    assert "`adapters promote people@2` makes it mean people@2" in str(note)


def test_an_equal_version_is_promoted(store: Store, bert: Backbone, train_tiny: Train) -> None:
    for number in (1, 2):
        found = promotion(store, bert, train_tiny, **GOOD)
        assert (found.promoted, store.resolve("people").version) == (True, number)
    assert (found.previous, found.notes) == ("people@1", ())
    assert "and 1.0000 with people@1" in found.message


def test_a_first_version_with_a_metric_of_0_is_not_promoted(
    store: Store, bert: Backbone, train_tiny: Train
) -> None:
    found = promotion(store, bert, train_tiny, **NOTHING)
    assert "people means no version yet: its f1 on dev is 0; `adapters promote people@1`" in found.message
    assert store.current("people") is None
    assert promotion(store, bert, train_tiny, **GOOD).promoted


@pytest.mark.parametrize(("rule", "current"), [("always", "people@2"), ("never", "people@1")])
def test_always_and_never_do_not_depend_on_the_metrics(
    rule: Promote, current: str, store: Store, bert: Backbone, train_tiny: Train
) -> None:
    promotion(store, bert, train_tiny, **GOOD)
    promotion(store, bert, train_tiny, **{**(BAD if rule == "always" else GOOD), "promote": rule})
    assert store.resolve("people").ref == current


def test_a_version_of_another_backbone_cannot_be_measured_and_stays(
    store: Store, bert: Backbone, roberta: Backbone, train_tiny: Train
) -> None:
    train_tiny(store, "ner", roberta, name="people", **GOOD)
    found = promotion(store, bert, train_tiny, **GOOD)
    assert (found.promoted, found.metrics) == (False, {})
    assert "people@1 could not be measured on the same data (" in found.message
    assert "was trained on" in found.message
    assert store.resolve("people").ref == "people@1"


def test_a_version_for_another_task_cannot_be_measured_and_stays(
    store: Store, bert: Backbone, train_tiny: Train
) -> None:
    promotion(store, bert, train_tiny, "sentiment", **GOOD)
    found = promotion(store, bert, train_tiny, "ner", **GOOD)
    assert "people@1 could not be measured on the same data (it is for the task sentiment)" in found.message
    assert store.resolve("people").ref == "people@1"


def test_labels_that_the_version_before_lacks_count_as_missed(
    store: Store, bert: Backbone, train_tiny: Train, records: dict[str, list[Record]]
) -> None:
    rows = [record for record in records["intent"] if record["label"] != "oos"]
    known = [record for record in rows if record["label"] != "find"]
    settings = {**GOOD, "epochs": 20}
    train_tiny(store, "intent", bert, name="people", rows=known, **settings)
    found = train_tiny(store, "intent", bert, name="people", rows=rows, **settings).promotion
    assert found.metrics["dev"]["accuracy"] == pytest.approx(2 / 3)
    assert found.promoted


def test_a_damaged_version_cannot_be_measured_and_the_new_one_is_stored(
    store: Store, bert: Backbone, train_tiny: Train
) -> None:
    promotion(store, bert, train_tiny, **GOOD)
    (store.root / "people" / "1" / "task.json").write_text("{")
    assert "task.json is not JSON" in promotion(store, bert, train_tiny, **GOOD).message
    assert store.resolve("people@2").read().manifest.task == "ner"


def test_a_name_that_another_run_has_moved_meanwhile_is_left_there(
    store: Store, bert: Backbone, train_tiny: Train
) -> None:
    promotion(store, bert, train_tiny, **GOOD)
    promotion(store, bert, train_tiny, **{**GOOD, "promote": "never"})
    moved: list[object] = []

    class Moved(Store):
        """A store in which another process promotes people@2 just before the new version is added."""

        def add(self, *arguments: Any, **options: Any) -> Any:
            moved.append(Store(self.root).promote("people@2"))
            return super().add(*arguments, **options)

    found = promotion(Moved(store.root), bert, train_tiny, **GOOD)
    assert "people still means people@2: it was set while this training ran" in found.message
    assert store.resolve("people").ref == "people@2"


def test_the_rule_is_not_recorded_with_the_adapter(store: Store, bert: Backbone, train_tiny: Train) -> None:
    promotion(store, bert, train_tiny, **GOOD)
    assert "promote" not in store.resolve("people").read().manifest.training
    assert TrainSettings().promote == "better"


@pytest.mark.parametrize(
    ("new", "old", "promoted"),
    [(0.5, 0.4, True), (0.5, 0.5, True), (0.5, 0.6, False), (None, 0.1, False), (0.5, None, False)],
)
def test_test_decides_if_there_is_one(
    new: float | None, old: float | None, promoted: bool, store: Store, bert: Backbone, train_tiny: Train
) -> None:
    train_tiny(store, "sentiment", bert, name="people")
    current = CurrentVersion(store.resolve("people"), {"dev": {"f1": 1.0}, "test": {"f1": old}})
    metrics: dict[str, Any] = {"dev": {"f1": 0.9}, "test": {"f1": new}}
    found, reason = decide("better", "f1", metrics, current)
    assert (found, "f1 on test is" in reason) == (promoted, True)
