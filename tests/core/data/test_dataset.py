from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onetrunk.core.data.dataset import (
    Dataset,
    Splits,
    TextRecord,
    check_any_missing,
    check_targets,
    content_sha256,
    find_evaluation,
    find_splits,
    hold_out,
    load_dataset,
    load_unlabelled,
)
from onetrunk.core.errors import DataError, PluginError, TaskSpecError, UsageError
from onetrunk.core.tasks import Example, HeadContext, JSONObject, Labels, Record, TaskSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"


def read_topic(record: Record) -> Example:
    if "text" not in record:
        raise ValueError(f"no 'text'; the record has {', '.join(record) or 'nothing'}")
    return Example(record["text"], record.get("label"))


def read_words(record: Record) -> Example:
    starts = [0]
    for word in record["words"]:
        starts.append(starts[-1] + len(word) + 1)
    spans = [(start, start + len(word)) for start, word in zip(starts, record["words"], strict=False)]
    return Example(" ".join(record["words"]), record["tags"], tuple(spans))


def topic_target(example: Example, labels: Labels) -> Sequence[int]:
    if example.target not in labels:
        raise ValueError(f"unknown label {example.target!r}; known: {', '.join(labels)}")
    return [labels.index(example.target)]


def word_targets(example: Example, labels: Labels) -> Sequence[int]:
    return [labels.index(tag) for tag in example.target]


def linear_head(context: HeadContext) -> nn.Module:
    from torch import nn

    return nn.Linear(context.hidden_size, len(context.labels))


def mean_square(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return (logits - targets[:, None]).square().mean()


def whole_text(text: str) -> tuple[tuple[int, int], ...]:
    return ((0, len(text)),)


def best(example: Example, logits: Any, labels: Labels, settings: JSONObject) -> JSONObject:
    return {"label": labels[int(logits.argmax())]}


def count(examples: Sequence[Example], logits: Any, labels: Labels, settings: JSONObject) -> JSONObject:
    return {"examples": len(examples)}


def some_labels(examples: Sequence[Example]) -> Labels:
    return tuple(sorted({str(example.target) for example in examples}))


TOPIC = TaskSpec(
    name="topic",
    summary="One topic a text.",
    level="text",
    read=read_topic,
    labels=some_labels,
    targets=topic_target,
    make_head=linear_head,
    loss=mean_square,
    decode=best,
    evaluate=count,
    primary="examples",
)
WORDS = replace(
    TOPIC, name="words", level="token", read=read_words, targets=word_targets, split=whole_text, labels=("O",)
)


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def jsonl(path: Path, rows: Sequence[Record]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def dataset_of(targets: Sequence[Any]) -> Dataset:
    examples = tuple(Example(f"text {row}", target, where=f"f:{row}") for row, target in enumerate(targets))
    return Dataset(examples, "f", content_sha256(examples))


# Reading


def test_every_example_knows_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}])
    dataset = load_dataset(TOPIC, path)
    assert dataset.examples == (Example("x", "a", where=f"{path}:1"), Example("y", "b", where=f"{path}:2"))
    assert dataset.source == str(path)


def test_a_record_that_the_task_refuses_is_named_with_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"label": "a"}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: no 'text'; the record has label$"):
        load_dataset(TOPIC, path)


def test_five_faulty_lines_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"label": "a"}] * 17)
    with pytest.raises(DataError, match=r"a\.jsonl:1: no 'text'.*\n.*a\.jsonl:2: no 'text'") as caught:
        load_dataset(TOPIC, path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "… and 12 more"


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_wrong_header_is_one_fault_with_what_was_found_and_what_was_expected(
    tmp_path: Path, suffix: str, delimiter: str
) -> None:
    path = write(tmp_path / f"a.{suffix}", f"txt{delimiter}label\n" + f"x{delimiter}a\n" * 17)
    with pytest.raises(DataError, match="17 rows have one fault") as caught:
        load_dataset(TOPIC, path)
    header, fault = "look at the header (txt, label)", "no 'text'; the record has txt, label"
    assert caught.value.lines == (f"{path}: all 17 rows have one fault, so {header}: {fault}",)


def test_a_column_that_every_row_lacks_when_its_labels_are_looked_up_is_one_fault(tmp_path: Path) -> None:
    dataset = load_dataset(TOPIC, write(tmp_path / "a.csv", "text,class\n" + "x,a\n" * 17))
    with pytest.raises(DataError, match=r"header \(text, class\): unknown label None; known: a$"):
        check_targets(TOPIC, dataset, ("a",))


def test_a_table_with_a_sound_row_or_with_other_faults_has_them_listed(tmp_path: Path) -> None:
    dataset = load_dataset(TOPIC, write(tmp_path / "a.csv", "text,label\nx,b\nx,b\nx,a\n"))
    with pytest.raises(DataError, match=r"a\.csv:2: unknown label 'b'.*\n.*a\.csv:3: unknown label 'b'"):
        check_targets(TOPIC, dataset, ("a",))
    with pytest.raises(DataError, match=r"a\.csv:2: unknown label 'b'(.*\n)*.*a\.csv:4: unknown label 'a'"):
        check_targets(TOPIC, dataset, ("c",))


def test_a_table_of_one_faulty_row_has_the_fault_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:2: no 'text'; the record has txt$"):
        load_dataset(TOPIC, write(tmp_path / "a.csv", "txt\nx\n"))


def test_a_bug_of_a_task_in_read_is_told_with_its_line_of_code_and_the_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    told = r"task 'words': read raises KeyError: 'words' \(.*test_dataset.py:\d+\) for the record at .*a.jsonl:1$"
    with pytest.raises(TaskSpecError, match=told) as caught:
        load_dataset(WORDS, path)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_bug_of_a_task_in_targets_is_told_with_the_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"words": ["x"], "tags": ["O"]}, {"words": ["x"], "tags": 7}])
    with pytest.raises(
        TaskSpecError, match=r"targets raises TypeError: 'int' .* for the record at .*a.jsonl:2$"
    ):
        check_targets(WORDS, load_dataset(WORDS, path), ("O",))


def test_missing_targets_are_named_with_their_lines_before_there_are_labels(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "a"}, {"text": "y"}, {"text": "z"}])
    with pytest.raises(
        DataError, match=r"a\.jsonl:2: unknown label None.*\n.*a\.jsonl:3: unknown label None"
    ):
        check_any_missing(TOPIC, load_dataset(TOPIC, path))


def test_a_target_unknown_to_the_labels_is_named_with_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "dev.jsonl", [{"text": "x", "label": "a"}, {"text": "y", "label": "c"}])
    with pytest.raises(DataError, match=r"dev\.jsonl:2: unknown label 'c'; known: a, b$"):
        check_targets(TOPIC, load_dataset(TOPIC, path), ("a", "b"))


def test_known_targets_pass(tmp_path: Path) -> None:
    dataset = load_dataset(TOPIC, jsonl(tmp_path / "dev.jsonl", [{"text": "x", "label": "a"}]))
    check_targets(TOPIC, dataset, ("a", "b"))


@pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not at hand")
@pytest.mark.parametrize(
    ("file", "rows"),
    [("banking77/train.jsonl", 10_003), ("clinc150/test.jsonl", 4_500), ("snips/train.jsonl", 13_084)],
)
def test_row_counts_of_real_data_are_as_published(file: str, rows: int) -> None:
    assert len(load_dataset(TOPIC, DATA / file).examples) == rows


# The hash


def test_the_hash_is_that_of_the_content_whatever_the_format(tmp_path: Path) -> None:
    rows = [{"text": 'a, "b"', "label": "x"}, {"label": "y", "text": "é\n"}]
    files = [
        jsonl(tmp_path / "a.jsonl", rows),
        write(tmp_path / "b.json", json.dumps(rows, indent=1, ensure_ascii=False)),
        write(tmp_path / "c.csv", 'label,text\r\nx,"a, ""b"""\r\n\r\ny,"é\n"\r\n'),
    ]
    assert len({load_dataset(TOPIC, file).sha256 for file in files}) == 1


def test_conll_and_jsonl_of_the_same_sentences_have_one_hash(tmp_path: Path) -> None:
    conll = write(tmp_path / "a.conll", "Ada\tI-p\nL.\tI-p\n")
    words = jsonl(tmp_path / "a.jsonl", [{"words": ["Ada", "L."], "tags": ["B-p", "I-p"]}])
    assert load_dataset(WORDS, conll).sha256 == load_dataset(WORDS, words).sha256


@pytest.mark.parametrize(
    "other",
    [
        [Example("b", "x"), Example("a", "x")],
        [Example("a", "x")],
        [Example("a", "x"), Example("b", "y")],
        [Example("a", "x"), Example("b", None)],
        [Example("a", "x"), Example("b", "x", ((0, 1),))],
    ],
)
def test_other_content_has_another_hash(other: list[Example]) -> None:
    assert content_sha256(other) != content_sha256([Example("a", "x"), Example("b", "x")])


def test_the_hash_is_the_same_in_every_process() -> None:
    program = (
        "from onetrunk.core.data.dataset import content_sha256; from onetrunk.core.tasks import Example\n"
        "print(content_sha256([Example('a', {'x', 'y', 'z'}), Example('b', {'k': ('v', 1)})]))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_a_target_that_cannot_be_hashed_is_the_plugins_fault() -> None:
    with pytest.raises(PluginError, match=r"a target cannot be hashed .* complex"):
        content_sha256([Example("a", 1j)])


# Holding out

TARGETS = (
    st.none() | st.sampled_from("abcde") | st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y"]), max_size=4)
)


def labels_in(dataset: Dataset) -> set[str]:
    return {label for example in dataset.examples for label in example.target or ()}


@given(
    targets=st.lists(TARGETS, min_size=2, max_size=60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 9)
)
@settings(deadline=None)
def test_hold_out_partitions_and_train_keeps_every_label(
    targets: list[Any], fraction: float, seed: int
) -> None:
    dataset = dataset_of(targets)
    try:
        train, dev = hold_out(dataset, fraction, seed)
    except DataError:
        assume(False)
    assert sorted((*train.examples, *dev.examples), key=dataset.examples.index) == list(dataset.examples)
    assert train.examples
    assert dev.examples
    assert labels_in(dev) <= labels_in(train)


@given(targets=st.lists(st.sampled_from("abc"), min_size=2, max_size=80), fraction=st.floats(0.01, 0.99))
@settings(deadline=None)
def test_every_label_is_held_out_in_proportion_and_keeps_a_row_in_train(
    targets: list[str], fraction: float
) -> None:
    rows = Counter(targets)
    assume(max(rows.values()) > 1)
    train, dev = hold_out(dataset_of(targets), fraction)
    held = Counter(example.target for example in dev.examples)
    assert {example.target for example in train.examples} == set(targets)
    for label, size in rows.items():
        assert min(int(fraction * size), size - 1) <= held[label] <= int(fraction * size) + 1


def test_a_tenth_is_held_out() -> None:
    train, dev = hold_out(dataset_of(["a"] * 70 + ["b"] * 30))
    assert len(train.examples) == 90
    assert Counter(example.target for example in dev.examples) == {"a": 7, "b": 3}


def test_many_small_strata_still_give_the_total() -> None:
    _, dev = hold_out(dataset_of([f"label {row % 77}" for row in range(231)]))
    assert len(dev.examples) == 23


def test_sentences_with_rare_sets_of_labels_are_held_out_too() -> None:
    targets = [["O", *{f"B-{row % 7}", f"B-{row % 11}", f"B-{row % 13}"}] for row in range(200)]
    _, dev = hold_out(dataset_of(targets))
    assert len(dev.examples) == 20


def test_the_draw_is_the_same_on_every_platform() -> None:
    _, dev = hold_out(dataset_of(list("aabbbccccc") * 3), 0.2, seed=7)
    assert [example.text for example in dev.examples] == [f"text {row}" for row in (4, 7, 8, 12, 20, 26)]


def test_another_seed_draws_other_rows() -> None:
    dataset = dataset_of(["a"] * 100)
    assert hold_out(dataset, seed=1)[1].examples != hold_out(dataset, seed=2)[1].examples


def test_both_parts_say_what_was_held_out() -> None:
    train, dev = hold_out(dataset_of(["a"] * 10), seed=3)
    assert train.source == "f (without the 10 % held out, seed 3)"
    assert dev.source == "f (the 10 % held out, seed 3)"


def test_both_parts_have_their_own_hash() -> None:
    train, dev = hold_out(dataset_of(["a"] * 10))
    assert (train.sha256, dev.sha256) == (content_sha256(train.examples), content_sha256(dev.examples))


@pytest.mark.parametrize("targets", [["a"], ["a", "b", "c"], [None]])
def test_too_few_rows_to_hold_out_are_refused(targets: list[str | None]) -> None:
    with pytest.raises(DataError, match="f: too few rows to hold any out: each label needs two or more"):
        hold_out(dataset_of(targets))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="expected a number between 0 and 1"):
        hold_out(dataset_of(["a"] * 10), fraction)


# Folders


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("dev", ["dev.csv", "valid.jsonl", "validation.json", "VAL.TSV"])
def test_the_files_of_a_folder_are_found_by_name(tmp_path: Path, dev: str) -> None:
    touch(tmp_path, "train.jsonl.gz", dev, "test.conll", "oos_train.jsonl", "README.md", "train.pdf")
    expected = Splits(tmp_path / "train.jsonl.gz", tmp_path / dev, tmp_path / "test.conll")
    assert find_splits(tmp_path) == expected


def test_dev_and_test_may_be_missing(tmp_path: Path) -> None:
    assert find_splits(touch(tmp_path, "train.csv")) == Splits(tmp_path / "train.csv", None, None)


def test_a_folder_without_train_is_refused_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train file; expected train .*\.jsonl, .*found dev\.csv"):
        find_splits(touch(tmp_path, "dev.csv"))


def test_of_a_folder_test_is_evaluated_else_dev_and_train_never(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no test or dev file; expected .*found train\.csv"):
        find_evaluation(touch(tmp_path, "train.csv"))
    assert find_evaluation(touch(tmp_path, "valid.csv")) == tmp_path / "valid.csv"
    assert find_evaluation(touch(tmp_path, "test.conll.gz")) == tmp_path / "test.conll.gz"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.csv", "train.jsonl"), "has 2 files for train: train.csv, train.jsonl; keep one"),
        (("train.csv", "dev.csv", "val.csv"), "has 2 files for dev: dev.csv, val.csv; keep one"),
    ],
)
def test_two_files_for_one_split_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_splits(touch(tmp_path, *names))


def test_a_folder_that_may_not_be_looked_into_is_told(forbidden: Path) -> None:
    for find in (find_splits, find_evaluation):
        with pytest.raises(
            DataError, match="forbidden: this folder cannot be read: Permission denied; check"
        ):
            find(forbidden)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_splits(tmp_path / "missing")


# Texts to predict


def test_plain_text_gives_a_text_a_line_and_keeps_empty_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\r\n\n  three\u2028\n")
    assert list(load_unlabelled(path)) == [
        TextRecord("one", {}, f"{path}:1"),
        TextRecord("", {}, f"{path}:2"),
        TextRecord("  three\u2028", {}, f"{path}:3"),
    ]


def test_jsonl_keeps_the_other_keys(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"id": 7, "text": "x"}])
    assert list(load_unlabelled(path)) == [TextRecord("x", {"id": 7}, f"{path}:1")]


def test_a_pipe_is_plain_text(tmp_path: Path) -> None:
    pipe = tmp_path / "63"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", 'printf "a\\n\\n{\\n" > "$0"', pipe]):
        assert [each.text for each in load_unlabelled(pipe)] == ["a", "", "{"]


def test_stdin_is_plain_text() -> None:
    program = (
        "from onetrunk.core.data.dataset import load_unlabelled\n"
        "print([(r.text, r.where) for r in load_unlabelled('-')])"
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, input="{a\nb", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[('{a', 'stdin:1'), ('b', 'stdin:2')]"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"text": "x"}\n{"txt": "x"}\n',
            r'a\.jsonl:2: "text" must be a string; the record has: txt',
        ),
        ("a.jsonl", '{"text": 3}\n', r'a\.jsonl:1: "text" must be a string'),
        ("a.jsonl", "{}\n", r"the record has: nothing"),
        ("a.txt", "", r"a\.txt: is empty; expected one text a line"),
    ],
)
def test_a_record_without_a_text_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(load_unlabelled(write(tmp_path / name, content)))


def test_reading_files_imports_no_torch() -> None:
    program = "import sys, onetrunk.core.data.dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
