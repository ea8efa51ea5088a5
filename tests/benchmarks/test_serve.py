from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks.equality import WrongOutput, check
from benchmarks.fanout import Asked, FanOut
from benchmarks.onnx_peers import REQUIRED
from benchmarks.peers import buckets
from benchmarks.serve import VARIANTS, chosen, main, measure, table
from benchmarks.variants import Ours, Setup, Skipped
from benchmarks.workloads import Batch, Texts, Workload, make_adapters
from onetrunk.core.backbones.backbone import Backbone

WORKLOAD = Workload(kind="all", texts=24, adapters=5, mix="zipf", targets="all", rank=4)


class OneSlotOff(Ours):
    """A wrong variant: each text gets its neighbour's adapter."""

    ran = 0

    def run(self, batch: Batch) -> Any:
        self.ran += 1
        return super().run(Batch(batch.encoded, tuple((slot + 1) % 5 for slot in batch.slots)))


class Elsewhere(Ours):
    """A variant that cannot run here."""

    def prepare(self, setup: Setup) -> None:
        raise Skipped(f"no room for {len(setup.adapters)} adapters")


@pytest.fixture(scope="module")
def setup(bert: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    scratch = tmp_path_factory.mktemp("scratch")
    return Setup(bert, make_adapters(bert, WORKLOAD), scratch, "all4", batch_tokens=10**9)


@pytest.fixture(scope="module")
def batch(data: Path, bert: Backbone) -> Batch:
    return Texts(data, bert.encoder, longest=128).batch(WORKLOAD)


@pytest.mark.parametrize("name", [name for name in VARIANTS if not name.startswith("onnx")])
def test_every_variant_gives_the_right_output(name: str, setup: Setup, batch: Batch) -> None:
    record = measure({name: VARIANTS[name]}, setup, batch, rounds=1, least=0.0)[name]
    assert record["status"] == "ok", record
    assert record["median"] > 0


@pytest.mark.skipif(any(find_spec(name) is None for name in REQUIRED), reason="the extra [bench] is absent")
def test_onnx_runtime_gives_the_right_output(setup: Setup, batch: Batch) -> None:
    names = [name for name in VARIANTS if name.startswith("onnx")]
    records = measure({name: VARIANTS[name] for name in names}, setup, batch, rounds=1, least=0.0)
    assert {name: record["status"] for name, record in records.items()} == dict.fromkeys(names, "ok")


def test_a_batch_of_several_packed_ones_gives_the_right_output(setup: Setup, batch: Batch) -> None:
    small = Setup(setup.backbone, setup.adapters, setup.scratch, setup.name, batch_tokens=150)
    assert len(Ours.run(prepared(Ours(), small), batch)) > 3
    records = measure({"ours": Ours}, small, batch, rounds=1, least=0.0)
    assert records["ours"]["status"] == "ok", records


def prepared(variant: Ours, setup: Setup) -> Ours:
    variant.prepare(setup)
    return variant


def test_a_variant_whose_output_is_wrong_is_reported_and_not_timed(setup: Setup, batch: Batch) -> None:
    wrong = OneSlotOff()
    makers: dict[str, Callable[[], Ours]] = {"wrong": lambda: wrong, "ours": Ours, "elsewhere": Elsewhere}
    records = measure(makers, setup, batch, rounds=3, least=0.0)
    assert wrong.ran == 1
    assert "median" not in records["wrong"]
    assert records["wrong"]["status"] == "failed"
    assert "largest error" in records["wrong"]["reason"]
    assert records["elsewhere"]["reason"] == "no room for 5 adapters"
    assert records["ours"]["status"] == "ok"
    lines = table({"variants": records, "tokens": batch.tokens, "texts": 24}).splitlines()
    assert lines[2].startswith("| wrong | failed: largest error")
    assert lines[4].startswith("| elsewhere | skipped: no room for 5 adapters |")


def test_an_output_of_another_shape_or_not_finite_is_wrong() -> None:
    right = torch.ones(3, 2)
    assert check(right + 5e-5, right, "fp32") == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(WrongOutput, match=r"shape \(2, 2\), expected \(3, 2\)"):
        check(right[:2], right, "fp32")
    with pytest.raises(WrongOutput, match="not finite"):
        check(right * torch.nan, right, "bf16")
    with pytest.raises(WrongOutput, match=r"relative error 0.03, at most 0.02 is right"):
        check(right * 1.03, right, "bf16")


def test_buckets_hold_every_text_once_and_little_padding() -> None:
    lengths = [3, 40, 8, 41, 9, 40, 8, 3, 500]
    groups = buckets(lengths)
    assert sorted(i for group in groups for i in group) == list(range(9))
    for group in groups:
        padded = len(group) * max(lengths[i] for i in group)
        assert sum(lengths[i] for i in group) >= 0.875 * padded


def test_names_are_chosen_by_patterns() -> None:
    names = ["ours fp32", "ours bf16", "peft mixed fp32"]
    assert chosen(names, "ours*, peft*", "*bf16") == ["ours fp32", "peft mixed fp32"]
    assert chosen(names, "*", "") == names


def test_a_fanout_of_other_adapters_is_wrong(setup: Setup, batch: Batch) -> None:
    asked = Asked(FanOut(2, last=1), setup, batch.encoded)
    assert asked.verdict()["status"] == "ok"
    asked.loras.reverse()  # what the merged models have, and no longer what ran
    assert asked.verdict()["status"] == "failed"


def test_a_quick_run_writes_what_it_measured_and_goes_on_where_it_stopped(
    data: Path, bert_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results" / "serve.json"
    line = ["--data", str(data), "--output", str(output), "--backbone", str(bert_folder), "--quick"]
    run = partial(CliRunner().invoke, main, catch_exceptions=False)
    first = run([*line, "--variants", "ours*,peft mixed fp32,floor fp32,pipeline*,*adapter*"])
    assert first.exit_code == 0, first.output
    assert "ours fp32 against peft mixed fp32" in first.output
    assert "ours fp32 predict against pipeline fp32" in first.output
    results = json.loads(output.read_text())["results"]
    keys = {"short 8x3 uniform qv8", "short 8x3 uniform qv8 residents 3,10"}
    keys |= {"fan-out of 5 qv8", "residents come and go qv8", "single text qv8"}
    assert results.keys() == {f"quick tiny-bert cpu: {key}" for key in keys}
    for result in results.values():
        assert all(own["status"] == "ok" for own in result["variants"].values())
        assert {"torch", "peft", "threads", "cpu", "device", "onnxruntime"} <= result["environment"].keys()
    written = output.read_bytes()
    again = run([*line, "--variants", "transformers*"])
    assert again.exit_code == 0
    assert output.read_bytes() == written
