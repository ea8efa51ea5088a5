"""Word borders are the same in training, evaluation and prediction, for all scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from onetrunk.adapters.format.artifact import Artifact, read_artifact, read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.data.dataset import load_dataset
from onetrunk.core.errors import AdapterRejected
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.tasks import Record
from onetrunk.core.tasks.word_splitter import split_words_1
from onetrunk.core.testing import tiny_backbone
from onetrunk.core.trunk.build import trunk_of
from onetrunk.plugins.ner import SPEC

Train = Callable[..., Any]
PIECES = (
    "▁",
    "▁서울",
    "▁부산",
    "▁대구에서",
    "에서",
    "은",
    "▁서",
    "울",
    "▁ไป",
    "กรุงเทพ",
    "ที่",
    "▁살아요",
    "▁좋다",
)


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A tiny backbone with pieces of Korean and Thai as in the tokenizer of XLM-R."""
    folder = tiny_backbone(tmp_path_factory.mktemp("unigram"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    own = Tokenizer(models.Unigram([(piece, -1.0) for piece in (*special, *PIECES)], unk_id=1))
    own.pre_tokenizer = pre_tokenizers.Metaspace()
    own.add_special_tokens(special)
    own.save(str(folder / "tokenizer.json"))
    return Backbone.load(folder, device="cpu", dtype="fp32")


def entity(text: str, *found: str) -> Record:
    spans = [(text.index(each), text.index(each) + len(each)) for each in found]
    return {"text": text, "entities": [{"start": a, "end": b, "label": "LOC"} for a, b in spans]}


KOREAN = [
    entity("서울에서 살아요", "서울"),
    entity("부산에서 살아요", "부산"),
    entity("서울은 좋다", "서울"),
    entity("부산은 좋다", "부산"),
    entity("ไปกรุงเทพ", "กรุงเทพ"),
    entity("ไปที่กรุงเทพ", "กรุงเทพ"),
]
LEARN: dict[str, Any] = {"lr": 0.005, "head_lr": 0.02, "epochs": 40, "patience": 0}


def found_in(trunk: OneTrunk, text: str) -> list[str]:
    [[prediction]] = trunk.predict([text], ["ner"])
    return [each["text"] for each in prediction.result["entities"]]


def served(store: Store, backbone: Backbone) -> OneTrunk:
    trunk = OneTrunk(backbone, store=store)
    trunk.load("ner")
    return trunk


@pytest.fixture(scope="module")
def korean(unigram: Backbone, train_tiny: Train, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    rows = [*KOREAN, entity("대구에서 살아요", "대구")]
    train_tiny(store, "ner", unigram, rows=rows, **LEARN)
    return store


@pytest.mark.parametrize(("text", "name"), [("서울에서 좋다", "서울"), ("ไปกรุงเทพ", "กรุงเทพ")])
def test_an_entity_without_its_particle_is_found(
    unigram: Backbone, korean: Store, text: str, name: str
) -> None:
    assert found_in(served(korean, unigram), text) == [name]


def test_an_entity_inside_a_token_is_missed_and_stored_with_the_adapter(korean: Store) -> None:
    stored = korean.resolve("ner")
    manifest = read_manifest(stored.path)
    assert manifest.metrics["dev"]["unreachable"] == 1
    assert manifest.metrics["dev"]["recall"] == pytest.approx(6 / 7)
    lost = "1 of 7 entities begin or end inside a word, or inside a token of the backbone"
    assert [note.startswith(lost) for note in manifest.data["train"].notes] == [True]
    card = (stored.path / "README.md").read_text(encoding="utf-8")
    assert f"  - {lost}" in card
    assert "| unreachable | 1 |" in card
    assert "Offsets count Unicode characters (code points), and `end` is exclusive." in card


CITIES = [
    entity("the Paris/London flight", "Paris", "London"),
    entity("find AHU-G1-V-1 in the room", "AHU", "G1"),
    entity("a London-based film", "London"),
    entity("my flight to l'Italie, please", "Italie"),
    entity("it was in tokyoTower", "tokyo"),
    {"text": "in paris !", "entities": [{"start": 2, "end": 9, "label": "LOC"}]},
    entity("not good, not bad"),
]
TAGGED: list[Record] = [
    {"words": words.split(), "tags": tags.split()}
    for words, tags in (
        ("Ada ( London ) was n't good .", "B-PER O B-LOC O O O O O"),
        ("find the London - based film", "O O B-LOC O O O"),
        ("New York / Paris , please", "B-LOC I-LOC O B-LOC O O"),
    )
]
SPACED: Record = {
    "words": ["Ada", "-", "London", "!"],
    "spaces": [False] * 4,
    "tags": ["B-PER", "O", "B-LOC", "O"],
}
LONG = "a London-based film " * 100  # several windows
LONG_ROW: Record = {
    "text": LONG,
    "entities": [
        {"start": at.start(), "end": at.end(), "label": "LOC"} for at in re.finditer("London", LONG)
    ],
}
FILES = {
    "entities.jsonl": "\n".join(json.dumps(row) for row in CITIES),
    "tags.conll": "\n\n".join(
        "\n".join(map(" ".join, zip(row["words"], row["tags"], strict=True))) for row in TAGGED
    ),
    "spaces.jsonl": json.dumps(SPACED),
}


@pytest.fixture(scope="module", params=["bert", "roberta"])
def cities(
    request: pytest.FixtureRequest, train_tiny: Train, tmp_path_factory: pytest.TempPathFactory
) -> OneTrunk:
    backbone: Backbone = request.getfixturevalue(request.param)
    store = Store(tmp_path_factory.mktemp("store"))
    train_tiny(store, "ner", backbone, rows=[*CITIES, *TAGGED, SPACED, LONG_ROW], **LEARN)
    return served(store, backbone)


@pytest.mark.parametrize("name", FILES)
def test_metrics_of_a_file_are_those_of_the_predictions_for_its_texts(
    cities: OneTrunk, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_text(FILES[name])
    dataset = load_dataset(SPEC, file)
    metrics = cities.evaluate("ner", dataset)
    texts = [example.text for example in dataset.examples]
    gold = {
        (row, start, end, kind)
        for row, example in enumerate(dataset.examples)
        for (start, end), kind in zip(example.spans, example.target, strict=True)
    }
    predicted = {
        (row, each["start"], each["end"], each["label"])
        for row, [prediction] in enumerate(cities.predict(texts, ["ner"]))
        for each in prediction.result["entities"]
    }
    hits = len(gold & predicted)
    expected = (hits / len(predicted), hits / len(gold), 2 * hits / (len(gold) + len(predicted)))
    assert hits > 0
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == pytest.approx(expected)


def test_two_entities_in_one_chunk_are_found(cities: OneTrunk) -> None:
    assert found_in(cities, "the Paris/London flight") == ["Paris", "London"]


def test_an_entity_at_the_border_of_two_windows_is_found(cities: OneTrunk) -> None:
    assert found_in(cities, LONG) == ["London"] * 100


@pytest.mark.parametrize("text", ["", " \n\t\u3000", "x" * 10_000, "a-" * 5_000, "서" * 10_000])
def test_odd_texts_are_predicted_and_evaluated(cities: OneTrunk, tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text(json.dumps({"text": text, "entities": []}))
    metrics = cities.evaluate("ner", load_dataset(SPEC, file))
    assert (metrics["recall"], bool(found_in(cities, text))) == (None, metrics["precision"] is not None)


def recorded(folder: Path, target: Path, splitter: str | None) -> Artifact:
    """Copy an artifact, with another word splitter in its manifest."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((target / "task.json").read_text())
    assert manifest["word_splitter"] == SPEC.splitter
    (target / "task.json").write_text(json.dumps({**manifest, "word_splitter": splitter}))
    return read_artifact(target)


@pytest.fixture
def folder(train_tiny: Train, bert: Backbone, tmp_path: Path) -> Path:
    path: Path = train_tiny(Store(tmp_path / "store"), "ner", bert, epochs=1).stored.path
    return path


def load(artifact: Artifact, backbone: Backbone) -> Adapter:
    return load_adapter("ner@1", artifact, SPEC, backbone, trunk_of(backbone))


def test_an_adapter_without_a_recorded_word_splitter_keeps_the_first_rule(
    folder: Path, bert: Backbone, tmp_path: Path
) -> None:
    adapter = load(recorded(folder, tmp_path / "old", None), bert)
    assert adapter.spec.unlabelled("Köln/Kiel").words == split_words_1("Köln/Kiel")


def test_an_adapter_with_an_unknown_word_splitter_is_refused(
    folder: Path, bert: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(
        AdapterRejected, match="trained with the word splitter 'words-9', task 'ner' has 'words-2'"
    ):
        load(recorded(folder, tmp_path / "new", "words-9"), bert)


def test_training_that_continues_an_adapter_keeps_its_word_splitter(
    folder: Path, bert: Backbone, tmp_path: Path, train_tiny: Train
) -> None:
    older = recorded(folder, tmp_path / "old", None)
    store = Store(tmp_path / "other")

    def write(target: Path) -> None:
        for file in older.path.iterdir():
            (target / file.name).write_bytes(file.read_bytes())

    start = store.add("ner", write)
    result = train_tiny(store, "ner", bert, epochs=1, start=start)
    assert read_manifest(result.stored.path).word_splitter is None
