from __future__ import annotations

import asyncio
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.load.__main__ import main
from benchmarks.load.adapters import BROKEN, MIXED, Stock, make_stock, task_of
from benchmarks.load.answers import TOLERANCE, distance
from benchmarks.load.generator import Load, Stream, arrivals, key_of
from benchmarks.load.outcome import generate
from benchmarks.load.overhead import answer_here
from benchmarks.load.target import sustained
from benchmarks.load.traffic import is_plain, solo
from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import ArtifactError
from onetrunk.core.inference.predictor import OneTrunk

TEXTS = ["ada likes paris", "the film was very bad", "flight to london", "awful and great"]


@pytest.fixture(scope="module")
def stock(bert: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return make_stock(tmp_path_factory.mktemp("stock"), bert, MIXED, 4)


@pytest.fixture(scope="module")
def right(bert: Backbone, stock: Stock) -> dict[str, Any]:
    return solo(OneTrunk(bert, store=stock.store), TEXTS, stock.versions)


@pytest.fixture
def slow_port() -> Iterator[int]:
    """A port of a server that answers one request at a time, in 20 ms; 429 where the text says so."""
    loop, ports = asyncio.new_event_loop(), []
    turn = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65536):
            async with turn:
                await asyncio.sleep(0.02)
            status = b"429 Too Many Requests" if b"full" in head else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\ncontent-length: 2\r\n\r\n")
            writer.write(b"{}")

    async def start() -> asyncio.Server:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        return server

    server = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield ports[0]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_arrivals_are_drawn_beforehand_and_the_same_for_the_same_seed() -> None:
    streams = [Stream(400.0, [1, 1 / 2, 1 / 3]), Stream(50.0, [0, 0, 1], texts=4)]
    load = Load(1, "abc", TEXTS, streams, 10.0, seed=3)
    drawn = arrivals(load)
    assert drawn == arrivals(load)
    assert [asked.due for asked in drawn] == sorted(asked.due for asked in drawn)
    assert drawn[-1].due < 10.0
    counts = Counter(asked.stream for asked in drawn)
    assert counts[0] == pytest.approx(4000, rel=0.1)
    assert counts[1] == pytest.approx(500, rel=0.2)
    popular = Counter(adapter for asked in drawn if asked.stream == 0 for _, adapter in asked.pairs)
    assert popular[0] == pytest.approx(2 * popular[1], rel=0.2)
    assert {len(asked.pairs) for asked in drawn if asked.stream == 1} == {4}


def test_times_count_from_when_a_request_was_due_however_slow_the_server(slow_port: int) -> None:
    load = Load(slow_port, ["a"], TEXTS, [Stream(200.0, [1.0])], 0.5)
    figures = generate(load).summary()
    assert figures["failed"] == figures["refused"] == 0
    assert figures["requests"] == len(arrivals(load))
    waits = figures["requests"] * 20  # of the last one, whose turn comes after all the others
    assert waits - 600 < figures["p99_ms"] < waits + 1000
    assert figures["client_late_p99_ms"] < 300


def test_a_closed_loop_sends_the_next_request_when_one_is_answered(slow_port: int) -> None:
    outcome = generate(Load(slow_port, ["a"], TEXTS, [Stream(1.0, [1.0])], 1.0, in_flight=2))
    assert outcome.unanswered == 0
    assert 20 < outcome.steady_rate < 60
    assert outcome.summary()["p50_ms"] < 200


def test_refusals_and_lost_requests_are_counted_apart(slow_port: int) -> None:
    refused = generate(Load(slow_port, ["full"], TEXTS, [Stream(20.0, [1.0])], 0.5)).summary()
    assert refused["refused"] == refused["requests"] > 0
    assert (refused["failed"], refused["p95_ms"]) == (0, None)
    lost = generate(Load(1, ["a"], TEXTS, [Stream(20.0, [1.0])], 0.5)).summary()
    assert lost["failed"] == lost["requests"] > 0


def test_distance_is_that_of_the_numbers_where_all_else_is_equal() -> None:
    right = {"label": "a", "scores": {"a": 0.9, "b": 0.1}, "entities": [{"start": 0, "score": 0.5}]}
    found = {"label": "a", "scores": {"a": 0.91, "b": 0.1}, "entities": [{"start": 0, "score": 0.5}]}
    assert distance(found, right) == pytest.approx(0.01)
    for other in (
        {**right, "label": "b"},
        {**right, "entities": []},
        {**right, "entities": [{"start": 1, "score": 0.5}]},
        {**right, "scores": {"a": 0.9}},
        {**right, "scores": {"a": math.nan, "b": 0.1}},
    ):
        assert distance(other, right) == math.inf


def test_bisection_finds_the_rate_up_to_which_the_target_is_kept() -> None:
    def measure(rate: float) -> dict[str, Any]:
        return {"failed": 0, "refused": 0, "p95_ms": 100.0 if rate <= 70 else 300.0}

    assert sustained(measure, 120.0, 8, target_ms=250.0)["sustained"] == pytest.approx(70, rel=0.02)
    assert sustained(measure, 120.0, 3, target_ms=50.0)["sustained"] == 0
    refusing = sustained(lambda rate: {**measure(rate), "refused": 1}, 120.0, 3, target_ms=250.0)
    assert refusing["sustained"] == 0


def test_a_stock_has_adapters_of_every_task_and_one_that_nobody_loads(bert: Backbone, stock: Stock) -> None:
    assert stock.names == ("intent-0", "sentiment-1", "ner-2", "intent-3")
    assert stock.versions[0] == "intent-0@2"
    trunk = OneTrunk(bert, store=stock.store)
    assert [trunk.load(name) for name in stock.names] == stock.versions
    answers = [trunk.predict(TEXTS, [name]) for name in (stock.spare, *stock.names) if trunk.load(name)]
    assert answers[0][0][0].result != answers[1][0][0].result
    with pytest.raises(ArtifactError, match="adapter_model"):
        trunk.load(BROKEN)


def test_without_its_updates_an_adapter_is_far_from_right(
    bert: Backbone, stock: Stock, right: dict[str, Any]
) -> None:
    trunk = OneTrunk(bert, store=stock.store)
    for name, version in zip(stock.names, stock.versions, strict=True):
        trunk.load(name)
        with trunk.registry.in_use([name]) as (adapter,):
            examples = [adapter.spec.unlabelled(text) for text in TEXTS]
            bare = trunk.logits(examples, replace(adapter, lora=Lora({})))
            records = [
                adapter.spec.decode(example, rows, adapter.labels, adapter.settings)
                for example, rows in zip(examples, bare, strict=True)
            ]
        off = [distance(record, right[key_of(version, i)]) for i, record in enumerate(records)]
        assert max(off) > 5 * TOLERANCE, name


def test_batches_in_process_give_what_each_text_gives_alone(
    bert: Backbone, stock: Stock, right: dict[str, Any]
) -> None:
    trunk = OneTrunk(bert, store=stock.store)
    versions = {trunk.load(name): name for name in stock.names}
    asked = [(i, version) for i in range(len(TEXTS)) for version in versions]
    records, tokens = answer_here(trunk, [(TEXTS[i], versions[version]) for i, version in asked])
    assert tokens >= 5 * len(asked)
    for (i, version), record in zip(asked, records, strict=True):
        assert distance(record, right[key_of(version, i)]) < TOLERANCE


def test_pipelines_of_merged_models_give_what_we_give(
    bert_folder: Path, stock: Stock, right: dict[str, Any]
) -> None:
    from benchmarks.load.peers import make_pipelines

    assert all(map(is_plain, TEXTS))
    for name, version in zip(stock.names, stock.versions, strict=True):
        found = make_pipelines(stock.store.resolve(version), bert_folder, "cpu")(TEXTS)
        assert any(record.get("entities", True) for record in found), task_of(name)
        for i, record in enumerate(found):
            own = right[key_of(version, i)]
            assert distance(record, {key: own[key] for key in record}) < TOLERANCE, name


def run_quick(data: Path, folder: Path, output: Path, *more: str) -> dict[str, Any]:
    """Run the command for seconds and return its results by key."""
    line = [
        "--data",
        str(data),
        "--output",
        str(output),
        "--backbone",
        str(folder),
        "--quick",
        "--adapters",
        "3",
    ]
    done = CliRunner().invoke(main, [*line, "--threads", "1", *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    results: dict[str, Any] = json.loads(output.read_text())["results"]
    assert all(f"### {key}" in done.output for key in results)
    return {key.removeprefix("quick tiny-bert cpu: ").split()[0]: own for key, own in results.items()}


def test_a_quick_run_measures_us_and_our_peers_and_goes_on_where_it_stopped(
    data: Path, bert_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "load.json"
    run = partial(run_quick, data, bert_folder, output, "--workloads", "target text*")
    result = run("--variants", "ours fp32,pipeline locked,peft mixed")["target"]
    for name in ("ours fp32", "pipeline locked", "peft mixed"):
        own = result["variants"][name]
        assert own["status"] == "ok", own
        assert own["error"] < TOLERANCE
        assert own["saturated"] > 0
        assert own["memory"] > 10 * 2**20
    assert {"torch", "fastapi", "uvicorn", "threads", "cpu"} <= result["environment"].keys()
    written = output.read_bytes()
    run("--variants", "ours*")
    assert output.read_bytes() == written


def test_a_quick_soak_swaps_and_compares_every_answer(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    results = run_quick(data, bert_folder, tmp_path / "load.json", "--workloads", "soak*")
    own = results["soak"]["variants"]["ours fp32"]
    assert own["status"] == "ok", own
    assert own["checked"] > 0
    assert own["wrong_count"] == 0
    assert own["done"] == {"swaps": 2, "failing loads": 1}


@pytest.mark.slow
def test_a_quick_run_measures_everything_else(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    wanted = "target mixed*,overhead*,flood*,overload*"
    results = run_quick(data, bert_folder, tmp_path / "load.json", "--workloads", wanted)
    mixed = results["target"]["variants"]
    assert mixed["peft mixed"]["status"] == "skipped"
    assert sum(own["status"] == "left out" for own in mixed.values()) == 2
    assert results["overhead"]["overheads"].keys() == {"1 text", "16 texts"}
    assert results["flood"]["times_p95"] > 0
    assert results["overload"]["variants"]["2: × 5"]["requests"] > 0
