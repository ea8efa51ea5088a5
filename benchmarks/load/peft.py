"""PEFT's mixed batches behind a batcher: texts of all requests that wait go through one forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

MAX_TOKENS = 1024
"""Of a batch, padding included: twice that of `adapters serve` on a CPU, as about half of it is padding."""
MAX_WAIT = 0.001
"""Seconds that the first text of a batch waits for more."""


class Asked(NamedTuple):
    """A text that waits. ids: its tokens; answer: where its record goes."""

    name: str
    ids: list[int]
    answer: asyncio.Future[dict[str, Any]]


class PeftModels:
    """One model with all adapters grafted in; each has its own classifier, all with the same labels."""

    def __init__(self, folder: Path, paths: Mapping[str, Path], labels: Sequence[str], device: str) -> None:
        from peft import PeftModel
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        base = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=len(labels), dtype=torch.float32
        )
        (first, path), *rest = paths.items()
        self._model = PeftModel.from_pretrained(base, str(path), adapter_name=first)
        for name, own in rest:
            self._model.load_adapter(str(own), adapter_name=name)
        self._model.to(device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._labels, self._device = labels, device

    def tokenise(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ids: list[int] = self._tokenizer(text, truncation=True)["input_ids"]
        return ids

    @torch.inference_mode()
    def run(self, names: Sequence[str], ids: Sequence[list[int]]) -> list[dict[str, Any]]:
        """Return the record of each text by its adapter."""
        padded = self._tokenizer.pad({"input_ids": list(ids)}, return_tensors="pt").to(self._device)
        logits = self._model(**padded, adapter_names=list(names)).logits
        return [self._record(own) for own in logits.softmax(-1).tolist()]

    def _record(self, own: Sequence[float]) -> dict[str, Any]:
        ranked = sorted(zip(self._labels, own, strict=True), key=lambda pair: -pair[1])
        return {"label": ranked[0][0], "score": ranked[0][1], "scores": dict(ranked)}


class Batching:
    """A queue and the task that empties it, batch by batch, on a thread of its own.

    run: (adapters, ids) → the record of each.
    """

    def __init__(self, run: Callable[[Sequence[str], Sequence[list[int]]], list[dict[str, Any]]]) -> None:
        self._run = run
        self._queue: asyncio.Queue[Asked] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "model")
        self._next: Asked | None = None

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Empty the queue for as long as the service runs."""
        task = asyncio.create_task(self._work())
        yield
        task.cancel()
        self._thread.shutdown()

    async def answer(self, asked: Sequence[tuple[str, list[int]]]) -> list[dict[str, Any]]:
        """Queue texts and return their records."""
        loop = asyncio.get_running_loop()
        waiting = [Asked(name, ids, loop.create_future()) for name, ids in asked]
        for each in waiting:
            self._queue.put_nowait(each)
        return list(await asyncio.gather(*(each.answer for each in waiting)))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._batch()
            names, ids = [each.name for each in batch], [each.ids for each in batch]
            try:
                records = await loop.run_in_executor(self._thread, self._run, names, ids)
            except Exception as error:  # whoever asked hears of it; the next batch is another
                for each in batch:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            for each, record in zip(batch, records, strict=True):
                if not each.answer.done():  # else whoever asked has gone
                    each.answer.set_result(record)

    async def _batch(self) -> list[Asked]:
        """Return what waits, at most `MAX_TOKENS` with padding; an idle service waits `MAX_WAIT` for more."""
        if self._next is not None:
            batch, self._next = [self._next], None
        else:
            idle = self._queue.empty()
            batch = [await self._queue.get()]
            if idle:
                await asyncio.sleep(MAX_WAIT)
        longest = len(batch[0].ids)
        while not self._queue.empty():
            each = self._queue.get_nowait()
            longest = max(longest, len(each.ids))
            if longest * (len(batch) + 1) > MAX_TOKENS:
                self._next = each
                break
            batch.append(each)
        return batch
