"""Where the labels of an imported adapter come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import UsageError
from tests.core.interop.conftest import LABELS, manifest_of, taken, write_model_config, yaml_bomb


def test_labels_are_read_off_the_configuration_beside_the_adapter(
    copied: Path, bert: Backbone, store: Store
) -> None:
    write_model_config(copied, LABELS["ner"])
    (copied / "README.md").write_text("---\nlabels: [a, b, c, d, e]\n---\n")
    assert manifest_of(taken(copied, bert, store, labels=None)).labels == LABELS["ner"]


@pytest.mark.parametrize(
    "metadata",
    ["labels: [O, B-PER, I-PER, B-LOC, I-LOC]", "id2label: {0: O, 1: B-PER, 2: I-PER, 3: B-LOC, 4: I-LOC}"],
)
def test_labels_are_read_off_the_metadata_of_the_card(
    metadata: str, copied: Path, bert: Backbone, store: Store
) -> None:
    (copied / "README.md").write_text(f"---\nlibrary_name: peft\n{metadata}\n---\n\n# a card\n")
    assert manifest_of(taken(copied, bert, store, labels=None)).labels == LABELS["ner"]


def test_given_labels_count_first(copied: Path, bert: Backbone, store: Store) -> None:
    write_model_config(copied, ("O", "B-A", "I-A", "B-B", "I-B"))
    assert manifest_of(taken(copied, bert, store)).labels == LABELS["ner"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _folder: None,
        lambda folder: write_model_config(folder, [f"LABEL_{i}" for i in range(5)]),
        lambda folder: write_model_config(folder, ["O", "B-X"]),
        lambda folder: (folder / "config.json").write_text('{"id2label": {"0": 1}}'),
        lambda folder: (folder / "README.md").write_text("---\n: [\n---\n"),
        lambda folder: (folder / "README.md").write_text("no metadata"),
        lambda folder: (folder / "README.md").write_text(yaml_bomb()),
    ],
    ids=["nothing", "placeholders", "too few", "numbers", "broken card", "plain card", "bomb"],
)
def test_labels_that_nobody_says_are_asked_for_with_their_number(
    spoil: Callable[[Path], object], copied: Path, bert: Backbone, store: Store
) -> None:
    spoil(copied)
    with pytest.raises(UsageError, match="do not list its 5 labels; give all of them with --labels"):
        taken(copied, bert, store, labels=None)


@pytest.mark.parametrize(
    "metadata",
    [": [", "when: 2026-99-99", "[" * 5_000, f"n: {'9' * 5_000}"],
    ids=["form", "date", "depth", "number"],
)
def test_a_card_whose_metadata_cannot_be_read_is_said(
    metadata: str, copied: Path, bert: Backbone, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    (copied / "README.md").write_text(f"---\n{metadata}\n---\n")
    with pytest.raises(UsageError, match="with --labels"):
        taken(copied, bert, store, labels=None)
    assert any("README.md is ignored, because it cannot be read" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("O", "B-X"), "--labels has 2 labels, but the adapter's head has 5"),
        (("O", "O", "B-X", "I-X", "B-Y"), "--labels: labels has duplicates"),
        (("", "O", "B-X", "I-X", "B-Y"), "--labels: labels has ''; expected non-empty strings"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    labels: tuple[str, ...], message: str, copied: Path, bert: Backbone, store: Store
) -> None:
    with pytest.raises(UsageError, match=message):
        taken(copied, bert, store, labels=labels)
    assert store.names() == []
