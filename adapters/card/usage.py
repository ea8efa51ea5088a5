"""The section of a card that shows how to use the adapter: with OneTrunk, with the server, and without OneTrunk."""

from __future__ import annotations

import json
import shlex

from onetrunk.adapters.card.facts import CardFacts
from onetrunk.adapters.card.markup import on_one_line
from onetrunk.adapters.card.samples import CodeSample

_DROPPED_WORDS = (
    "If the tokenizer drops a word completely, such as one of control characters, OneTrunk reads the unknown token "
    "in its place. The code above skips the word."
)


def usage(facts: CardFacts) -> str:
    """Return the section, without its heading."""
    parts = [_predict(facts), _serve(facts), _without_onetrunk(facts)]
    if facts.manifest.recipe is not None and facts.manifest.level == "token":
        parts.append(_DROPPED_WORDS)
    return "\n\n".join(parts)


def _predict(facts: CardFacts) -> str:
    name = shlex.quote(facts.repo or facts.name)
    commands = [f'adapters predict {name} "some text"']
    if facts.repo is not None:
        commands.append(f"adapters pull {name}  # keeps a copy in the local store")
    return f"With OneTrunk:\n\n{_shell(*commands)}"


def _serve(facts: CardFacts) -> str:
    served = facts.name if facts.repo is None else f"{facts.name}={facts.repo}"
    body = json.dumps({"inputs": [{"text": "some text", "adapters": [facts.name]}]})
    commands = _shell(
        f"adapters serve {shlex.quote(served)}",
        f"curl http://127.0.0.1:8000/v1/predict -H 'Content-Type: application/json' -d {shlex.quote(body)}",
    )
    return f"With OneTrunk's server, which can serve many adapters on one backbone:\n\n{commands}"


def _shell(*commands: str) -> str:
    return "\n".join(["```bash", *map(on_one_line, commands), "```"])


def _without_onetrunk(facts: CardFacts) -> str:
    recipe, backbone = facts.manifest.recipe, facts.manifest.backbone
    if recipe is None:
        return (
            "Without OneTrunk, the encoder loads as a plain PEFT adapter. Only the task's plugin defines how the "
            "head computes."
        )
    code = CodeSample(recipe, backbone, repo=facts.repo).code()
    return f"With transformers and PEFT alone, for a string `text`:\n\n```python\n{code}```"
