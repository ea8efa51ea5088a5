from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetrunk.core.errors import PlanError
from onetrunk.core.training.train_plan import read_plan

WHOLE = """
backbone = "some/encoder"
precision = "fp32"

[defaults]
epochs = 3
batch-tokens = 256
lr = 1

[[adapters]]
task = "ner"
train = "people.conll"
dev = "../dev.conll"
name = "people"
rank = 8
targets = ["query", "value"]

[[adapters]]
task = "intent"
train = "/data/intents"
epochs = 5
targets = "query,value"
from = "intent@2"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "plan.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_plan_is_read_with_its_defaults_and_files_from_where_it_lies(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, WHOLE))
    assert (plan.backbone, plan.precision) == ("some/encoder", "fp32")
    people, intent = plan.adapters
    assert (people.task, people.name, people.start) == ("ner", "people", None)
    assert people.train == str(tmp_path / "people.conll")
    assert people.dev == str(tmp_path / "../dev.conll")
    assert people.test is None
    own = people.settings
    assert (own.epochs, own.rank, own.batch_tokens, own.lr, own.precision) == (3, 8, 256, 1, "fp32")
    assert own.targets == intent.settings.targets == ("query", "value")
    assert (intent.name, intent.train, intent.start) == ("intent", "/data/intents", "intent@2")
    assert intent.settings.epochs == 5
    assert intent.chosen == {"epochs", "batch_tokens", "lr", "targets"}


ONE = '[[adapters]]\ntask = "ner"\ntrain = "x"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected at least one table \[\[adapters\]\]"),
        ("adapters = 3", "adapters must be a list, not 3"),
        ("a = x\n", r"is not TOML: Invalid value \(at line 1, column 5\)"),
        (
            "nonsense = 1\n" + ONE,
            "has the unknown key 'nonsense'; known: backbone, precision, defaults, adapters",
        ),
        ("[defaults]\nepoch = 1\n" + ONE, r"defaults: has the unknown key 'epoch'; known: method, pooling"),
        ("defaults = 1\n" + ONE, r"defaults must be a table, not 1"),
        (
            ONE + "ranks = 3",
            "adapter 1: has the unknown key 'ranks'; known: task, name, train, dev, test, from, method",
        ),
        (ONE + "rank = 0", "adapter 1: rank must be 1 to 1024, not 0"),
        (ONE + 'rank = "8"', "adapter 1: rank must be a whole number, not '8'"),
        (ONE + "rank = true", "adapter 1: rank must be a whole number, not True"),
        (ONE + 'lr = "fast"', "adapter 1: lr must be a number, not 'fast'"),
        (ONE + "targets = []", "adapter 1: targets is empty; name modules, or use all"),
        (ONE + 'precision = "bf16"', "adapter 1: has the unknown key 'precision'"),
        (ONE + 'method = "full"', "adapter 1: method 'full' trains no adapter"),
        (ONE + 'name = "a/b"', "adapter 1: .*a/b"),
        (ONE + 'dev = ""', "adapter 1: dev must have at least 1 character, not ''"),
        ("[[adapters]]\n", "adapter 1: task is missing; adapter 1: train is missing"),
        (ONE + ONE, "2 adapters have the name 'ner'; give each a different 'name'"),
    ],
)
def test_a_faulty_plan_is_told_what_is_wrong_where(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=f"plan.toml: .*{message}"):
        read_plan(write(tmp_path, text))


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        read_plan(write(tmp_path, "x = 1\n" + ONE + "rank = 0\n[[adapters]]\ntask = 'intent'"))
    assert len(caught.value.faults) == 3


def test_a_plan_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none\.toml: cannot be read: No such file"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(PlanError, match=r"latin\.toml: is not UTF-8: .* at byte 5"):
        read_plan(tmp_path / "latin.toml")


KEYS = ("rank", "lr", "epochs", "targets", "layers", "method", "from", "name", "task", "dropout")
VALUES = ("-1", "0", "2.5", "true", '""', '"x"', "[]", "[1]", "{}", "1979-05-27", "nan", "1e400")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS), st.sampled_from(VALUES))
def test_no_value_of_a_key_gets_past_the_reader_unchecked(tmp_path: Path, key: str, value: str) -> None:
    kept = "" if key == "task" else 'task = "ner"\n'
    file = write(tmp_path, f'[[adapters]]\n{kept}train = "x"\n{key} = {value}')
    try:
        (adapter,) = read_plan(file).adapters
    except PlanError as error:
        assert all(fault.startswith("adapter 1: ") for fault in error.faults)  # noqa: PT017
    else:
        assert adapter.train == str(tmp_path / "x")
