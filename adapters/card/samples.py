"""Samples of Python code that use an adapter without OneTrunk: with transformers and PEFT, or with ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from onetrunk.adapters.card.markup import quoted
from onetrunk.adapters.format.artifact import HEAD, TASK
from onetrunk.adapters.format.manifest import BackboneRecord, Recipe
from onetrunk.adapters.methods.target_modules import MODELS

ExportFormat: TypeAlias = Literal["peft", "merged", "onnx"]
"""The form of the weights: a PEFT adapter, a model with the adapter merged into it, or an ONNX graph."""

RECIPES: tuple[Recipe, ...] = get_args(Recipe)
"""The kinds of head for which there is code."""

GRAPH = "model.onnx"
LABELS = "labels.json"
"""The file of an export that lists the labels."""

_CLASSES = {"token": MODELS["TOKEN_CLS"], "cls": MODELS["SEQ_CLS"]}
"""transformers' classes of models with a head, by kind of head."""
_ROWS = {"mean": "hidden.mean(0)", "first": "hidden[0]", "words": "hidden"}
"""The hidden states that a head in `head.safetensors` reads, by kind of head."""
_PER_TOKEN = ("token", "words")

_MODEL_LOGITS = """\
with torch.no_grad():
    logits = model(**tokenizer(text, return_tensors="pt")).logits[0]  # {shape}
"""
_HEAD_LOGITS = """\
with torch.no_grad():
    hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]  # (tokens, width)
    logits = {rows} @ head["classifier.weight"].T + head["classifier.bias"]  # {shape}
"""
_ONNX = """\
import json
import onnxruntime
from transformers import AutoTokenizer

folder = "."  # this folder
labels = json.load(open(f"{folder}/labels.json"))["labels"]
tokenizer = AutoTokenizer.from_pretrained(folder)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
batch = tokenizer([text], return_token_type_ids=True, return_tensors="np")
(logits,) = session.run(None, {each.name: batch[each.name].astype("int64") for each in session.get_inputs()})
"""


@dataclass(frozen=True, slots=True)
class CodeSample:
    """The code for one adapter.

    recipe: how its head computes logits.
    backbone: the model that it was trained on.
    form: the form of its weights.
    repo: `org/name` of its files on the Hub; None if they are in the folder of the card.
    labels_file: name of the file that lists its labels.
    """

    recipe: Recipe
    backbone: BackboneRecord
    form: ExportFormat = "peft"
    repo: str | None = None
    labels_file: str = TASK

    def code(self) -> str:
        """Return lines of Python that read `labels`, and compute `logits` for the string `text`."""
        shape = "(tokens, labels)" if self.recipe in _PER_TOKEN else "(labels,)"
        if self.form == "onnx":
            return f"{_ONNX}logits = logits[0]  # {shape}\n"
        logits = _MODEL_LOGITS if self.recipe in _CLASSES else _HEAD_LOGITS
        return "".join(f"{line}\n" for line in (*self._imports(), "", *self._model())) + logits.format(
            rows=_ROWS.get(self.recipe), shape=shape
        )

    def _imports(self) -> list[str]:
        lines = ["import json, torch"]
        if self.repo is not None:
            lines.append("from huggingface_hub import hf_hub_download")
        if self.form == "peft":
            lines.append("from peft import PeftModel")
        if self.recipe in _ROWS:
            lines.append("from safetensors.torch import load_file")
        return [*lines, f"from transformers import {self._model_class}, AutoTokenizer"]

    def _model(self) -> list[str]:
        """Return the lines that read labels, tokenizer, model and head."""
        is_peft = self.form == "peft"
        folder = '"."  # this folder' if self.repo is None else quoted(self.repo)
        first = f"base, adapter = {quoted(self.backbone.name)}, {folder}" if is_peft else f"base = {folder}"
        revision = self.backbone.revision if is_peft else None
        pin = "" if revision is None else f", revision={quoted(revision)}"
        labelled = ", num_labels=len(labels), id2label=names" if is_peft and self.recipe in _CLASSES else ""
        lines = [
            first,
            f'labels = json.load(open({self._file(self.labels_file)}))["labels"]',
            f"tokenizer = AutoTokenizer.from_pretrained(base{pin})",
            *(["names = dict(enumerate(labels))"] if labelled else []),
            f"model = {self._model_class}.from_pretrained(base{pin}{labelled}){'' if is_peft else '.eval()'}",
        ]
        if is_peft:
            lines.append("model = PeftModel.from_pretrained(model, adapter).eval()")
        if self.recipe in _ROWS:
            lines.append(f"head = load_file({self._file(HEAD)})")
        return lines

    @property
    def _model_class(self) -> str:
        return _CLASSES.get(self.recipe, MODELS["FEATURE_EXTRACTION"])

    def _file(self, name: str) -> str:
        """Return the Python expression for the path of a file of the adapter."""
        if self.repo is not None:
            return f'hf_hub_download(adapter, "{name}")'
        return f'f"{{{"adapter" if self.form == "peft" else "base"}}}/{name}"'
