"""The peers as services, as who knows the libraries would write them: FastAPI around pipelines, and around PEFT.

    python -m benchmarks.load.peers pipelines intent-0 ner-1 --port 8001

Requests and responses are those of `adapters serve`. The adapters come from the store in `$ONETRUNK_HOME`.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from benchmarks.load.peft import Batching, PeftModels
from onetrunk.adapters.format.artifact import CONFIG, MODEL
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.repository import locate

Record = dict[str, Any]
Classify = Callable[[list[str]], list[Record]]


class Input(BaseModel):
    """A text and the adapter that it is for."""

    text: str
    adapters: list[str]


class Body(BaseModel):
    """A request."""

    inputs: list[Input]


def respond(results: Sequence[tuple[str, Record]]) -> JSONResponse:
    """Return the response; nothing checks or converts it again, which is the quickest that FastAPI has."""
    answers = [{"answers": [{"adapter": name, "version": name, "task": "", **own}]} for name, own in results]
    return JSONResponse({"results": answers})


def make_pipelines(stored: StoredVersion, folder: Path, device: str) -> Classify:
    """Return the pipeline of an adapter, merged into a model of its own, with its output as our records."""
    from peft import PeftModel
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoTokenizer,
        pipeline,
    )

    manifest = stored.read().manifest
    names = dict(enumerate(manifest.labels))
    kind = (
        AutoModelForTokenClassification if manifest.level == "token" else AutoModelForSequenceClassification
    )
    base = kind.from_pretrained(folder, num_labels=len(names), id2label=names, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(stored.path)).merge_and_unload().eval()
    shared = {"model": model, "tokenizer": AutoTokenizer.from_pretrained(folder), "device": device}
    if manifest.level == "token":
        tag: Any = pipeline("token-classification", aggregation_strategy="first", **shared)
        return lambda texts: [
            entities(text, found)
            for text, found in zip(texts, tag(texts, batch_size=len(texts)), strict=True)
        ]
    score: Any = pipeline("text-classification", top_k=None, **shared)
    return lambda texts: [scores(found) for found in score(texts, batch_size=len(texts))]


def entities(text: str, found: Sequence[Mapping[str, Any]]) -> Record:
    """Return what a token classification pipeline has found, as our record."""
    return {
        "entities": [
            {
                "start": int(own["start"]),
                "end": int(own["end"]),
                "label": own["entity_group"],
                "text": text[own["start"] : own["end"]],
                "score": float(own["score"]),
            }
            for own in found
        ]
    }


def scores(found: Sequence[Mapping[str, Any]]) -> Record:
    """Return what a text classification pipeline gives, from the best label down, as our record."""
    best = found[0]
    return {
        "label": best["label"],
        "score": best["score"],
        "scores": {own["label"]: own["score"] for own in found},
    }


def pipelines_app(versions: Mapping[str, StoredVersion], folder: Path, device: str, locked: bool) -> FastAPI:
    """Return the service around a pipeline an adapter; FastAPI runs its route in a thread pool."""
    models = {name: make_pipelines(stored, folder, device) for name, stored in versions.items()}
    lock = threading.Lock() if locked else nullcontext()
    app = FastAPI()

    @app.post("/v1/predict")
    def predict(body: Body) -> JSONResponse:
        groups: dict[str, list[int]] = {}
        for i, given in enumerate(body.inputs):
            groups.setdefault(given.adapters[0], []).append(i)
        records: dict[int, tuple[str, Record]] = {}
        for name, own in groups.items():
            with lock:
                found = models[name]([body.inputs[i].text for i in own])
            records |= {i: (name, record) for i, record in zip(own, found, strict=True)}
        return respond([records[i] for i in range(len(body.inputs))])

    return app


def peft_app(versions: Mapping[str, StoredVersion], folder: Path, device: str) -> FastAPI:
    """Return the service that puts the texts of all requests into PEFT's mixed batches."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: _without_pooler(own.path, Path(scratch) / name) for name, own in versions.items()}
        labels = next(iter(versions.values())).read().manifest.labels
        models = PeftModels(folder, paths, labels, device)
    batching = Batching(models.run)
    app = FastAPI(lifespan=batching.lifespan)

    @app.post("/v1/predict")
    async def predict(body: Body) -> JSONResponse:
        asked = [(given.adapters[0], models.tokenise(given.text)) for given in body.inputs]
        records = await batching.answer(asked)
        return respond([(name, own) for (name, _), own in zip(asked, records, strict=True)])

    return app


def _without_pooler(path: Path, folder: Path) -> Path:
    """Copy an adapter without its pooler, which is the backbone's own: PEFT mixes no modules but linears."""
    folder.mkdir()
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    config["modules_to_save"] = ["classifier"]
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    weights = {key: own for key, own in load_file(path / MODEL).items() if ".pooler." not in key}
    save_file(weights, folder / MODEL)
    return folder


@click.command()
@click.argument("kind", type=click.Choice(["pipelines", "peft"]))
@click.argument("names", nargs=-1, required=True)
@click.option("--backbone", required=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--port", type=int, required=True)
@click.option("--locked", is_flag=True, help="One request computes at a time.")
def main(kind: str, names: tuple[str, ...], backbone: str, device: str, port: int, locked: bool) -> None:
    """Serve the newest versions of some adapters of the store on a port of the loopback."""
    store = Store()
    versions = {name: store.resolve(name) for name in names}
    folder, _ = locate(backbone, None)
    if kind == "pipelines":
        app = pipelines_app(versions, folder, device, locked)
    else:
        app = peft_app(versions, folder, device)

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
