"""Plain PEFT on the other side of the Hub: it reads what we push, and we pull what it saved."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from onetrunk.adapters.store.store import Store
from onetrunk.cli.main import cli
from tests.hub_child import ROOT, Child, Line
from tests.hub_server import HubServer

Asked = Callable[..., Line]

READ_PUSHED = """
import json, sys, torch
from huggingface_hub import hf_hub_download
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

repo, base, kind, *texts = sys.argv[1:]
labels = json.load(open(hf_hub_download(repo, "task.json")))["labels"]
tokenizer = AutoTokenizer.from_pretrained(base)
loader = {"token": AutoModelForTokenClassification, "text": AutoModelForSequenceClassification}[kind]
model = loader.from_pretrained(base, num_labels=len(labels))
model = PeftModel.from_pretrained(model, repo).eval()
with torch.no_grad():
    logits = [model(**tokenizer(text, return_tensors="pt")).logits[0].tolist() for text in texts]
print(json.dumps({"labels": labels, "logits": logits}))
"""

TEXTS = ("the film is good", "bad", "a great table and a flight")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def token(hub: HubServer) -> str:
    return hub.add_user("ada")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def child(hub: HubServer, cache: Path) -> Iterator[Child]:
    process = Child(hub, cache)
    yield process
    process.close()


def plain(code: str, hub: HubServer, cache: Path, *arguments: str) -> Any:
    """Run lines of plain transformers and PEFT, which know the Hub by their environment."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=hub.environment(cache=cache),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def ours(root: Path, reference: str, backbone: Path, level: str) -> list[list[Any]]:
    """Return our logits: a list a text, or for tokens a row a word."""
    import torch

    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.inference.predictor import OneTrunk

    loaded = Backbone.load(backbone, device="cpu", dtype="fp32")
    trunk = OneTrunk(loaded, store=Store(root))
    trunk.load(reference)
    with torch.inference_mode(), trunk.registry.in_use([reference]) as (adapter,):
        examples = [adapter.spec.unlabelled(text) for text in TEXTS]
        found = trunk.logits(examples, adapter)
    return [own.tolist() if level == "token" else own[0].tolist() for own in found]


@pytest.mark.parametrize(
    ("task", "data_set", "level"),
    [("sentiment", "mood", "text"), ("intent", "mood", "text"), ("ner", "names", "token")],
)
def test_plain_peft_reads_a_pushed_repo_with_the_same_logits(
    hub: HubServer,
    child: Child,
    cache: Path,
    token: str,
    tmp_path: Path,
    data: Path,
    backbone: Path,
    task: str,
    data_set: str,
    level: str,
) -> None:
    root, repo = tmp_path / "store", f"ada/plain-{task}"
    options = ["--epochs", "2", "--lr", "0.01", "--backbone", str(backbone), "--precision", "fp32"]
    if level == "text":
        options += ["--pooling", "cls"]
    line = ["train", task, "--name", "x", "--train", str(data / data_set), *options]
    done = CliRunner().invoke(cli, line, env={"ONETRUNK_HOME": str(root)})
    assert done.exit_code == 0, done.stderr
    pushed = child("push", "x", repo, "--json", home=root, token=token)
    assert pushed.code == 0, pushed.err
    told = plain(READ_PUSHED, hub, cache, repo, str(backbone), level, *TEXTS)
    assert told["labels"] == list(Store(root).resolve("x").read().manifest.labels)
    for own, theirs in zip(ours(root, "x", backbone, level), told["logits"], strict=True):
        rows = theirs[1:-1] if level == "token" else theirs  # every word of these texts is one token
        assert (
            own == pytest.approx(rows, abs=1e-4)
            if level == "text"
            else all(a == pytest.approx(b, abs=1e-4) for a, b in zip(own, rows, strict=True))
        )


def saved_by_peft(folder: Path, backbone: Path, options: dict[str, Any]) -> list[list[float]]:
    """Save an adapter of plain PEFT, and return its logits of `TEXTS`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(backbone, num_labels=3)
    config = LoraConfig(
        task_type="SEQ_CLS",
        target_modules=["query", "value"],
        init_lora_weights=False,
        **{"r": 8, "lora_alpha": 16, **options},
    )
    model = get_peft_model(base, config).eval()
    model.save_pretrained(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    with torch.no_grad():
        return [model(**tokenizer(text, return_tensors="pt")).logits[0].tolist() for text in TEXTS]


@pytest.mark.parametrize(
    ("options", "remote"),
    [
        ({}, "hub"),
        ({}, "folder"),
        ({"rank_pattern": {"layer.0.attention.self.query": 4}}, "hub"),
        ({"alpha_pattern": {"value": 32}}, "hub"),
        ({"use_rslora": True}, "hub"),
    ],
    ids=["plain", "plain folder", "rank pattern", "alpha pattern", "rslora"],
)
def test_an_adapter_of_plain_peft_is_pulled_with_its_logits(
    hub: HubServer,
    child: Child,
    token: str,
    tmp_path: Path,
    backbone: Path,
    options: dict[str, Any],
    remote: str,
) -> None:
    folder, root = tmp_path / "saved", tmp_path / "store"
    expected = saved_by_peft(folder, backbone, options)
    source = folder.as_uri()
    if remote == "hub":
        source = "ada/foreign"
        hub.repos.pop(source, None)
        hub.create_repo(source).commit({path.name: path.read_bytes() for path in folder.iterdir()})
    labels = ("--task", "sentiment", "--labels", "bad,fine,good")
    pulled = child(
        "pull", source, "--as", "y", *labels, "--backbone", backbone, "--json", home=root, token=token
    )
    assert pulled.code == 0, pulled.err
    for own, theirs in zip(ours(root, "y", backbone, "text"), expected, strict=True):
        assert own == pytest.approx(theirs, abs=1e-4)


def test_labels_without_a_task_are_refused(child: Child, tmp_path: Path) -> None:
    line = child("pull", "ada/x", "--labels", "a,b", home=tmp_path)
    assert line.code == 1
    assert "also give --task" in line.err
