"""What HTTP and the batcher cost: a saturated service against the same batches in its own process."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import torch

from benchmarks.load.generator import Load, arrivals
from benchmarks.load.services import Ours, Service
from benchmarks.load.target import described, verdict
from benchmarks.load.traffic import Traffic, in_turns, median_by, solo
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.tasks import JSONObject

SIZES = (1, 16)
"""Texts of a request."""
_COUNTER = re.compile(r"^onetrunk_(batch_\w+_(?:sum|count)) ([\d.e+]+)$", re.MULTILINE)


def run_overhead(traffic: Traffic) -> dict[str, Any]:
    """Saturate the service with requests of each of `SIZES`, and answer such batches here; return the record."""
    trunk = OneTrunk(traffic.backbone, store=traffic.stock.store)
    right = solo(trunk, traffic.texts, traffic.stock.versions)
    for name in traffic.stock.names:
        trunk.load(name)
    variants: dict[str, dict[str, Any]] = {}
    with traffic.started(Ours(), "ours fp32") as service:
        checked = verdict(traffic, service, Ours(), right)
        if checked["status"] != "ok":
            return {**described(traffic), "variants": {"service": checked}}
        for size in SIZES:
            own = replace(traffic, texts_per_request=size)
            batch = round(_served(own, service, traffic.lengths.short, seed=-3)["batch_texts"])
            turns = {
                f"service, {_texts(size)} a request": partial(_turn, own, service),
                f"in process, {_texts(batch)} a batch, as for {size}": partial(_here, own, trunk, batch),
            }
            for name, rounds in in_turns(turns, traffic.lengths.rounds).items():
                variants[name] = {"status": "ok", "error": None, **median_by(rounds, "texts_per_second")}
    return {**described(traffic), "variants": variants, "overheads": _overheads(variants)}


def _texts(count: int) -> str:
    return f"{count} text{'s' if count > 1 else ''}"


def _turn(traffic: Traffic, service: Service, seed: int) -> dict[str, Any]:
    return _served(traffic, service, traffic.lengths.seconds, seed)


def _served(traffic: Traffic, service: Service, seconds: float, seed: int) -> dict[str, Any]:
    """Saturate the service; return its speed, its mean batch and who used how much of the processors."""
    before, cpu, began = counters(service), service.cpu, time.perf_counter()
    figures = traffic.saturated(service, seconds, seed)
    wall = time.perf_counter() - began
    after = counters(service)
    grown = {key: after[key] - before[key] for key in after}
    batches = max(1.0, grown["batch_texts_count"])
    speed = figures["answered"]
    return {
        "texts_per_second": speed,
        "tokens_per_second": speed * grown["batch_tokens_sum"] / max(1.0, grown["batch_texts_sum"]),
        "batch_texts": max(1.0, grown["batch_texts_sum"] / batches),
        "batch_tokens": grown["batch_tokens_sum"] / batches,
        "batch_ms": 1e3 * grown["batch_seconds_sum"] / batches,
        "device_share": grown["batch_seconds_sum"] / wall,
        "cpu_ms_per_text": 1e3 * (service.cpu - cpu) / max(1.0, grown["batch_texts_sum"]),
        "client_cpu": figures["client_cpu"],
        "p95_ms": figures["p95_ms"],
        "failed": figures["failed"] + figures["refused"],
        "statuses": figures["statuses"],
    }


def counters(service: Service) -> dict[str, float]:
    """Return what the service has counted of its batches. Raises RuntimeError where it does not say."""
    status, text = service.ask("GET", "/metrics")
    found = {name: float(value) for name, value in _COUNTER.findall(text)}
    if status != 200 or "batch_texts_sum" not in found:
        raise RuntimeError(f"{service.name} tells nothing of its batches under /metrics: {status}")
    return found


def _here(traffic: Traffic, trunk: OneTrunk, size: int, seed: int) -> dict[str, Any]:
    """Answer batches of `size` texts on as many threads as the service has device threads, and as it does."""
    threads = torch.get_num_threads()
    workers = Limits.for_device(trunk.trunk.device.type, threads).workers
    cpu, began = time.process_time(), time.perf_counter()

    def work(number: int) -> tuple[int, int]:
        pairs = _pairs(traffic, seed + 1000 * number)
        texts, tokens = 0, 0
        while time.perf_counter() - began < traffic.lengths.seconds:
            tokens += answer_here(trunk, [next(pairs) for _ in range(size)])[1]
            texts += size
        return texts, tokens

    torch.set_num_threads(max(1, threads // workers))
    try:
        with ThreadPoolExecutor(workers) as pool:
            done = list(pool.map(work, range(workers)))
    finally:
        torch.set_num_threads(threads)
    wall = time.perf_counter() - began
    texts, tokens = (sum(column) for column in zip(*done, strict=True))
    return {
        "texts_per_second": texts / wall,
        "tokens_per_second": tokens / wall,
        "batch_texts": size,
        "batch_tokens": tokens * size / texts,
        "batch_ms": 1e3 * wall * size * workers / texts,
        "device_share": float(workers),
        "cpu_ms_per_text": 1e3 * (time.process_time() - cpu) / texts,
        "client_cpu": 0.0,
        "p95_ms": None,
        "failed": 0,
    }


def _pairs(traffic: Traffic, seed: int) -> Iterator[tuple[str, str]]:
    """Yield texts with the names of their adapters, without an end: those of the generator."""
    stream = replace(traffic.stream(1.0), texts=1)
    load = Load(0, traffic.stock.names, traffic.texts, [stream], 0.0, seed, in_flight=1)
    drawn = [pair for asked in arrivals(load) for pair in asked.pairs]
    endless = chain.from_iterable(iter(lambda: drawn, None))
    return ((traffic.texts[text], traffic.stock.names[adapter]) for text, adapter in endless)


def answer_here(trunk: OneTrunk, batch: Sequence[tuple[str, str]]) -> tuple[list[JSONObject], int]:
    """Return the record of each text by its adapter, from one batch, and how many tokens that had."""
    tokenised = trunk.encoder.tokenise([text for text, _ in batch])
    names = sorted({name for _, name in batch})
    with trunk.registry.in_use(names) as adapters:
        specs = {name: (slot, adapters[slot]) for slot, name in enumerate(names)}
        own = [specs[name] for _, name in batch]
        examples = [adapter.spec.unlabelled(text) for (text, _), (_, adapter) in zip(batch, own, strict=True)]
        jobs = [
            LogitsRequest(
                trunk.encoder.arrange(tokens, example.words, join=adapter.spec.flexible_words), slot
            )
            for tokens, example, (slot, adapter) in zip(tokenised, examples, own, strict=True)
        ]
        examples = [
            adapter.spec.with_words(example, job.encoded.spans)
            for example, job, (_, adapter) in zip(examples, jobs, own, strict=True)
        ]
        budget = Limits.for_device(trunk.trunk.device.type).batch_tokens
        logits = compute_logits(trunk.trunk, adapters, jobs, budget)
        records = [
            adapter.spec.decode(example, rows, adapter.labels, adapter.settings)
            for example, rows, (_, adapter) in zip(examples, logits, own, strict=True)
        ]
    return records, sum(job.encoded.tokens for job in jobs)


def _overheads(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return for each size of request what share of the speed in process is lost.

    `all`: with the client on the same cores; `without_client`: of the processor time that the client left.
    """
    cores = os.cpu_count() or 1
    pairs = list(variants.values())
    lost = {}
    for size, served, here in zip(SIZES, pairs[::2], pairs[1::2], strict=True):
        left = 1 - served["client_cpu"] / cores
        share = served["texts_per_second"] / here["texts_per_second"]
        lost[_texts(size)] = {"all": 1 - share, "without_client": 1 - share / left}
    return lost
