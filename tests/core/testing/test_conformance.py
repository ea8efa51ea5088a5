from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.testing import TinyShape, check_task, tiny_backbone

SOUND = """
from onetrunk.core.tasks import Example, TaskSpec

def read(record):
    if not isinstance(record.get("text"), str):
        raise ValueError("expected a string under 'text'")
    return Example(record["text"], record.get("topics"))

def learn_labels(examples):
    return tuple(sorted({topic for example in examples for topic in example.target}))

def targets(example, labels):
    if example.target is None:
        raise ValueError("the record has no topics")
    if unknown := set(example.target) - set(labels):
        raise ValueError(f"unknown topics {unknown}")
    return [int(label in example.target) for label in labels]

def make_head(context):
    from onetrunk.core.tasks.heads import text_head
    return text_head(context)

def loss(logits, targets, weights):
    from torch.nn.functional import binary_cross_entropy_with_logits
    return binary_cross_entropy_with_logits(logits, targets.view_as(logits).float())

def decode(example, logits, labels, settings):
    return {"topics": [label for label, logit in zip(labels, logits[0].tolist()) if logit > 0]}

def evaluate(examples, logits, labels, settings):
    right = [set(decode(e, l, labels, settings)["topics"]) == set(e.target) for e, l in zip(examples, logits)]
    return {"exact": sum(right) / len(right)}

SPEC = TaskSpec(name="topics", summary="any number of topics a text", level="text", read=read,
                labels=learn_labels, targets=targets, make_head=make_head, loss=loss, decode=decode,
                evaluate=evaluate, primary="exact")
"""
TOPICS: list[Record] = [
    {"text": f"{word} {text}", "topics": topics}
    for word in ("good", "bad", "my")
    for text, topics in (("film", ["art"]), ("book", ["art", "work"]), ("table", ["work"]), ("room", []))
]

Plugin = Callable[[str, str], TaskSpec]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """Return (a part of the sound plugin, what stands there instead) → its task, from a module of its own."""

    def make(part: str, instead: str) -> TaskSpec:
        assert part in SOUND
        name = f"plugin_{abs(hash((part, instead)))}"
        (tmp_path / f"{name}.py").write_text(SOUND.replace(part, instead), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        spec: TaskSpec = import_module(name).SPEC
        return spec

    return make


@pytest.mark.parametrize("task", ["ner", "sentiment", "intent"])
def test_the_built_in_tasks_keep_the_contract(task: str, records: dict[str, list[Record]]) -> None:
    check_task(import_module(f"onetrunk.plugins.{task}").SPEC, records[task])


def test_a_multi_label_task_of_a_plugin_follows_the_contract(plugin: Plugin, tmp_path: Path) -> None:
    check_task(plugin("", ""), TOPICS, folder=tmp_path / "trial")


@pytest.mark.parametrize(
    ("part", "instead", "fault"),
    [
        (
            "from onetrunk.core.tasks import Example",
            "import torch\nfrom onetrunk.core.tasks import Example",
            "imports: importing .* loads torch",
        ),
        (
            'record.get("text"), str',
            'record["text"], str',
            "read: an empty record raises KeyError, expected a ValueError",
        ),
        (
            'return Example(record["text"], ',
            'return (record["text"], ',
            "read: record 1: returns .* expected an Example",
        ),
        (
            "return tuple(sorted({topic",
            "return tuple(sorted({1 for topic in 'x'} | {topic",
            "learn_labels: raises Type",
        ),
        (
            "return tuple(sorted(",
            "return ('', *sorted(",
            "learn_labels: labels has ''; expected non-empty strings",
        ),
        (
            "return [int(label in",
            "return [bool(label in",
            "targets: record 1: the target True is neither an int",
        ),
        (
            "    if unknown := set(example.target) - set(labels):",
            "    if unknown := ():",
            "no target raises",
        ),
        ("return text_head(context)", "return 7", "head: .* make_head returns 7, expected a torch.nn.Module"),
        (
            "    if example.target is None:",
            "    if ():",
            "targets: a target of None raises TypeError, expected a Val",
        ),
        (
            'level="text",',
            'level="text", notes=lambda e: [3],',
            "notes: raises .* returns 3, expected strings",
        ),
        (
            'level="text",',
            'level="text", calibrate=lambda e, x, y: {"t": float("inf")},',
            "number inf, .* under 't'",
        ),
        ("    return binary", "    return 0 * binary", "train: the loss does not fall"),
        (
            ".view_as(logits).float())",
            ".view_as(logits).float(), reduction='none')",
            "loss: returns .* finite scalar",
        ),
        ('{"topics": [', '{"logits": logits, "topics": [', "decode: .* has a ndarray, which is not JSON"),
        (
            '"exact": sum(right) / len(right)',
            '"exact": float("nan")',
            "evaluate: .* nan, expected a finite number",
        ),
        (
            'return {"exact"',
            'return {"accuracy"',
            "evaluate: 'exact' is None, expected a finite number",
        ),
    ],
)
def test_each_fault_of_a_task_is_found(plugin: Plugin, part: str, instead: str, fault: str) -> None:
    with pytest.raises(TaskSpecError, match=f"(?s)task 'topics': .*{fault}"):
        check_task(plugin(part, instead), TOPICS)


def test_a_head_that_mixes_the_texts_of_a_batch_fails(plugin: Plugin) -> None:
    mixing = """
    head = text_head(context)
    forward = head.forward
    head.forward = lambda hidden, rows: forward(hidden, rows) - forward(hidden, rows).mean(0)
    return head
"""
    with pytest.raises(TaskSpecError, match=r"head: .* has other logits in a batch than alone"):
        check_task(plugin("    return text_head(context)\n", mixing), TOPICS)


def test_a_head_that_declares_a_wrong_format_fails(plugin: Plugin) -> None:
    claiming = """
    head = text_head(context)
    from onetrunk.core.tasks import HeadFormat
    head.format = HeadFormat("SEQ_CLS")
    forward = head.forward
    head.forward = lambda hidden, rows: 2 * forward(hidden, rows)
    return head
"""
    with pytest.raises(TaskSpecError, match=r"peft: .* has other logits in PEFT"):
        check_task(plugin("    return text_head(context)\n", claiming), TOPICS)


def test_every_fault_of_a_stage_is_listed(plugin: Plugin) -> None:
    spec = plugin('{"topics": [', '{"logits": logits, "topics": [')
    with pytest.raises(TaskSpecError) as caught:
        check_task(spec, TOPICS)
    assert len(caught.value.faults) > len(TOPICS)
    assert caught.value.task == "topics"


def test_without_records_there_is_nothing_to_check(plugin: Plugin) -> None:
    with pytest.raises(TaskSpecError, match="read: there are no records; expected at least one"):
        check_task(plugin("", ""), [])


@pytest.mark.parametrize(
    "model_type", ["bert", "roberta", "electra", "distilbert", "deberta-v2", "modernbert"]
)
def test_a_tiny_backbone_is_as_asked(model_type: str, tmp_path: Path) -> None:
    folder = tiny_backbone(tmp_path / "x", model_type=model_type, shape=TinyShape(3, 16, 20))  # type: ignore[arg-type]
    backbone = Backbone.load(folder)
    assert backbone.family.model_type == model_type
    assert (backbone.layers, backbone.hidden_size) == (3, 16)
    assert backbone.encoder.encode(["a" * 99 + " b" * 99], [()])[0].windows[0].shape == (20,)


def test_one_seed_gives_one_tiny_backbone_and_another_gives_another(tmp_path: Path) -> None:
    first, again, other = (
        Backbone.load(tiny_backbone(tmp_path / str(i), seed=seed)) for i, seed in enumerate((1, 1, 2))
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.tokenizer_fingerprint == again.tokenizer_fingerprint


def test_a_tiny_backbone_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    tiny_backbone(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_weights_of_a_tiny_backbone_are_equal_and_none_is_constant(tmp_path: Path) -> None:
    tensors = list(Backbone.load(tiny_backbone(tmp_path)).read_tensors().values())
    assert all(float(tensor.std()) > 0.05 for tensor in tensors)


def test_a_tiny_backbone_says_how_it_pools(tmp_path: Path) -> None:
    declared = tiny_backbone(tmp_path / "mean", mean_pooling=True)
    assert (
        json.loads((declared / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True
    )
    assert Backbone.load(declared).pooling == "mean"
    assert Backbone.load(tiny_backbone(tmp_path / "cls")).pooling == "cls"


def test_the_words_of_the_tiny_vocabularies_are_tokens_of_their_own(
    bert: Backbone, roberta: Backbone
) -> None:
    for backbone in (bert, roberta):
        tokens = backbone.encoder.tokenise(["the film was very good"])[0]
        assert [re.sub("Ġ", "", token) for token in tokens.tokens] == ["the", "film", "was", "very", "good"]
