"""The lines on a card that use an adapter: with OneTrunk, with plain transformers and PEFT, with the server."""

from __future__ import annotations

import json
import shlex

from onetrunk.adapters.card.facts import CardFacts
from onetrunk.adapters.card.markup import on_one_line, quoted
from onetrunk.adapters.methods.target_modules import MODELS

_IN_MODEL = """\
import json, torch
{imports}from peft import PeftModel
from transformers import KIND, AutoTokenizer

base, adapter = {base}, {adapter}
labels = json.load(open({task}))["labels"]
tokenizer = AutoTokenizer.from_pretrained(base{pin})
names = dict(enumerate(labels))
model = KIND.from_pretrained(base{pin}, num_labels=len(labels), id2label=names)
model = PeftModel.from_pretrained(model, adapter).eval()
with torch.no_grad():
    logits = model(**tokenizer(text, return_tensors="pt")).logits[0]  # SHAPE
"""

_IN_FILE = """\
import torch
{imports}from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

base, adapter = {base}, {adapter}
tokenizer = AutoTokenizer.from_pretrained(base{pin})
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base{pin}), adapter).eval()
head = load_file({head})
with torch.no_grad():
    hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]  # (tokens, width)
    logits = ROWS @ head["classifier.weight"].T + head["classifier.bias"]  # SHAPE
"""


def _in_model(kind: str, shape: str) -> str:
    """Return the lines for a head that a model of transformers has."""
    return _IN_MODEL.replace("KIND", kind).replace("SHAPE", shape)


def _in_file(rows: str, shape: str) -> str:
    """Return the lines for a linear head in a file of its own, on these rows of the hidden states."""
    return _IN_FILE.replace("ROWS", rows).replace("SHAPE", shape)


RECIPES = {
    "token": _in_model(MODELS["TOKEN_CLS"], "(tokens, labels)"),
    "cls": _in_model(MODELS["SEQ_CLS"], "(labels,)"),
    "mean": _in_file("hidden.mean(0)", "(labels,)"),
    "first": _in_file("hidden[0]", "(labels,)"),
    "words": _in_file("hidden", "(tokens, labels)"),
}
"""Lines of plain transformers and PEFT that give the logits, by the form of the head."""

_DROPPED_WORDS = (
    "A word of which the tokenizer leaves nothing (control characters alone, say) is read by OneTrunk as the "
    "unknown token; these lines leave it out."
)


def usage(facts: CardFacts) -> str:
    """Return how the adapter is used: from the store, or from where it is published."""
    first = _from_store(facts.name) if facts.repo is None else _published(facts.repo)
    parts = [first, _served(facts), _plain(facts)]
    if facts.recipe is not None and facts.manifest.level == "token":
        parts.append(_DROPPED_WORDS)
    return "\n\n".join(parts)


def _from_store(name: str) -> str:
    command = f'adapters predict {shlex.quote(name)} "some text"'
    return f"With OneTrunk, from the store:\n\n{_shell(command)}"


def _published(repo: str) -> str:
    ref = shlex.quote(repo)
    commands = _shell(
        f'adapters predict {ref} "some text"', f"adapters pull {ref}  # into the store, to stay"
    )
    return f"With OneTrunk:\n\n{commands}"


def _served(facts: CardFacts) -> str:
    name = facts.name
    given = name if facts.repo is None else f"{name}={facts.repo}"
    body = json.dumps({"inputs": [{"text": "some text", "adapters": [name]}]})
    commands = _shell(
        f"adapters serve {shlex.quote(given)}  # beside any others, on one backbone",
        f"curl http://127.0.0.1:8000/v1/predict -H 'Content-Type: application/json' -d {shlex.quote(body)}",
    )
    return f"With the server:\n\n{commands}"


def _shell(*commands: str) -> str:
    return "\n".join(["```bash", *map(on_one_line, commands), "```"])


def _plain(facts: CardFacts) -> str:
    if facts.recipe is None:
        return "Its head is the plugin's own (`head.safetensors`); the encoder loads as a plain PEFT adapter."
    base = facts.manifest.backbone
    code = RECIPES[facts.recipe].format(
        base=quoted(base.name),
        pin="" if base.revision is None else f", revision={quoted(base.revision)}",
        adapter='"."  # this folder' if facts.repo is None else quoted(facts.repo),
        imports="" if facts.repo is None else "from huggingface_hub import hf_hub_download\n",
        task=_file("task.json", facts.repo),
        head=_file("head.safetensors", facts.repo),
    )
    return f"With plain transformers and PEFT, for a `text` of your own:\n\n```python\n{code}```"


def _file(name: str, repo: str | None) -> str:
    """Return the Python that gives the path of a file of the adapter."""
    return f'f"{{adapter}}/{name}"' if repo is None else f'hf_hub_download(adapter, "{name}")'
