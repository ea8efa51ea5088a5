"""What the Hub reads from a README.md: its YAML head, and the tags that follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.hub_server.repos import File

_HEAD = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?\r?\n)??---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_MODEL_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def card(readme: str) -> dict[str, Any]:
    """The YAML head; empty if there is none. Raises ValueError if it is no mapping or no YAML."""
    head = _HEAD.match(readme)
    try:
        found = yaml.safe_load(head[1] or "") if head else None
    except yaml.YAMLError as error:
        raise ValueError(f"YAML Metadata Error: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise ValueError("YAML Metadata Error: it must be a mapping")
    return found or {}


def problems(readme: str) -> list[str]:
    """Why the Hub refuses this README.md; empty if it does not."""
    try:
        found = card(readme)
    except ValueError as error:
        return [str(error)]
    wrong = [
        f'"{key}" must be a string'
        for key in ("library_name", "pipeline_tag")
        if not isinstance(found.get(key, ""), str)
    ]
    tags = found.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        wrong.append('"tags" must be an array of strings')
    wrong += [
        f'"base_model" with value "{base}" is not valid. Use a model id from https://hf.co/models.'
        for base in _listed(found.get("base_model"))
        if not _MODEL_ID.fullmatch(str(base))
    ]
    return wrong


def card_of(files: Mapping[str, File]) -> dict[str, Any]:
    """The card of a repo with these files; empty if there is none that can be read."""
    try:
        return card(files["README.md"].data.decode())
    except (KeyError, ValueError):
        return {}


def tags_of(files: Mapping[str, File], found: Mapping[str, Any]) -> list[str]:
    """The tags that the Hub shows and filters by, each once."""
    relation = found.get("base_model_relation") or (
        "adapter" if "adapter_config.json" in files else "finetune"
    )
    bases = [str(base) for base in _listed(found.get("base_model"))]
    tags = [
        *_listed(found.get("library_name")),
        *(["safetensors"] if any(path.endswith(".safetensors") for path in files) else []),
        *_listed(found.get("tags")),
        *_listed(found.get("pipeline_tag")),
        *_listed(found.get("language")),
        *(f"dataset:{name}" for name in _listed(found.get("datasets"))),
        *(f"base_model:{base}" for base in bases),
        *(f"base_model:{relation}:{base}" for base in bases),
        *(f"license:{name}" for name in _listed(found.get("license"))),
        "region:us",
    ]
    return list(dict.fromkeys(map(str, tags)))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
