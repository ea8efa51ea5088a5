"""What all tests share: no network, one thread, a store of its own for each test, tiny real backbones."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# Before any of them is imported: each reads its variable once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and the commands that they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.tasks import Record
    from onetrunk.core.testing import TinyModel

# How long an example takes says something of the machine's other work, not of our code.
hypothesis.settings.register_profile("onetrunk", deadline=None)
hypothesis.settings.load_profile("onetrunk")

MIXES = ("distinct", "identical", "uniform", "zipf", "skewed")
_WORDS = (
    "the film was very good bad awful and great ada",
    "likes paris 🙂 flight to LONDON don't x 東京 unfindable",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run also the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))
        if "gpu" in item.keywords and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The store of this test, for this process and for those that it starts."""
    folder = tmp_path_factory.mktemp("home", numbered=True)
    before = os.environ.get("ONETRUNK_HOME")
    os.environ["ONETRUNK_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["ONETRUNK_HOME"]
    else:
        os.environ["ONETRUNK_HOME"] = before


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Path]:
    """A folder that this test may see, but neither list nor enter."""
    if os.geteuid() == 0:
        pytest.skip("root may read every folder")
    folder = tmp_path / "forbidden"
    folder.mkdir(0)
    yield folder
    folder.chmod(0o700)


def _folder_of(name: str, model_type: TinyModel) -> Any:
    """Return a fixture: the folder of a tiny backbone of this type."""

    @pytest.fixture(scope="session")
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        from onetrunk.core.testing import TinyShape, tiny_backbone

        place = tmp_path_factory.mktemp("backbones") / f"tiny-{name}"
        return tiny_backbone(place, model_type=model_type, shape=TinyShape(positions=128))

    return folder


def _loaded(folder: str) -> Any:
    """Return a fixture: the backbone in the folder of the fixture of this name."""

    @pytest.fixture(scope="session")
    def backbone(request: pytest.FixtureRequest) -> Backbone:
        from onetrunk.core.backbones.backbone import Backbone

        return Backbone.load(request.getfixturevalue(folder), device="cpu", dtype="fp32")

    return backbone


bert_folder = _folder_of("bert", "bert")
roberta_folder = _folder_of("roberta", "roberta")
electra_folder = _folder_of("electra", "electra")
distilbert_folder = _folder_of("distilbert", "distilbert")
deberta_folder = _folder_of("deberta", "deberta-v2")
modernbert_folder = _folder_of("modernbert", "modernbert")

bert = _loaded("bert_folder")
roberta = _loaded("roberta_folder")
electra = _loaded("electra_folder")
distilbert = _loaded("distilbert_folder")
deberta = _loaded("deberta_folder")
modernbert = _loaded("modernbert_folder")


@pytest.fixture(params=["bert", "roberta", "electra", "distilbert", "deberta", "modernbert"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """Each family's tiny backbone in turn, the last two of them padded."""
    found: Backbone = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def some_texts() -> Callable[[int], list[str]]:
    """Return n texts of mixed length, none longer than the positions of the tiny backbones."""

    def draw(n: int) -> list[str]:
        rng, words = random.Random(n), " ".join(_WORDS).split()
        return ["", "good", *(" ".join(rng.choices(words, k=rng.randint(1, 16))) for _ in range(n - 2))]

    return draw


@pytest.fixture(params=MIXES)
def slots(request: pytest.FixtureRequest) -> Callable[[int, int], list[int]]:
    """Return (rows, adapters) → the adapter of each row, by each popularity mix of punica and lorax in turn."""

    def draw(rows: int, adapters: int) -> list[int]:
        rng, every = random.Random(0), range(adapters)
        weights = {
            "uniform": [1.0 for _ in every],
            "zipf": [1 / (i + 1) for i in every],
            "skewed": [0.9 if i == 0 else 0.1 / adapters for i in every],
        }
        if request.param == "distinct":
            return [i % adapters for i in range(rows)]
        return (
            [adapters - 1] * rows
            if request.param == "identical"
            else rng.choices(every, weights[request.param], k=rows)
        )

    return draw


@pytest.fixture(scope="session")
def records() -> dict[str, list[Record]]:
    """A dozen and more records of each built-in task."""
    feelings = [("good", "pos"), ("great", "pos"), ("bad", "neg"), ("awful", "neg")]
    places = ["london", "paris", "room", "tokyo"]
    return {
        "ner": [
            {
                "words": ["ada", "likes", place, "very", "much"][: 3 + i % 3],
                "tags": ["B-PER", "O", "B-LOC", "O", "O"][: 3 + i % 3],
            }
            for i, place in enumerate(places * 4)
        ],
        "sentiment": [
            {"text": f"the {place} was very {word}", "label": label}
            for place in places
            for word, label in feelings
        ],
        "intent": [
            *(
                {"text": f"please {verb} a {thing}", "label": verb}
                for verb in ("book", "cancel", "find")
                for thing in ("table", "flight", "room")
            ),
            *({"text": f"{word} film", "label": "oos"} for word, _ in feelings),
        ],
    }


@pytest.fixture(scope="session")
def train_tiny(records: dict[str, list[Record]]) -> Callable[..., Any]:
    """Return (store, task, backbone, *, name, start, records, **settings) → `TrainResult` of a short real run."""
    from onetrunk.core.data.dataset import Dataset, content_sha256
    from onetrunk.core.data.training_data import TrainData
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.training.job import TrainJob, TrainResult
    from onetrunk.core.training.pipeline import train_adapter
    from onetrunk.core.training.settings import TrainSettings

    host = PluginHost.discover()

    def train(
        store: Any,
        task: str,
        backbone: Backbone,
        *,
        name: str | None = None,
        start: Any = None,
        rows: Sequence[Record] | None = None,
        **settings: Any,
    ) -> TrainResult:
        spec = host.task(task)
        examples = tuple(map(spec.read, records[task] if rows is None else rows))
        data = Dataset(examples, "rows", content_sha256(examples))
        splits = TrainData(data, data, None, spec.learn_labels(examples), held_out=False)
        chosen = TrainSettings(
            **{
                "promote": "always",
                "epochs": 3,
                "lr": 0.01,
                "head_lr": 0.01,
                "rank": 4,
                "batch_tokens": 64,
                **settings,
            }
        )
        return train_adapter(host, store, TrainJob(task, name or task, splits, chosen, start), backbone)

    return train
