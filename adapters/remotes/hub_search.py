"""Search for adapters on the Hub, by the tags of their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onetrunk.adapters.remotes.hub_client import hub_api, hub_errors

FORMAT_TAG = "onetrunk"
TASK_TAG = "onetrunk-task:"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A repo whose card says that it is an adapter. The values are not verified; unknown ones are None.

    metric: name and value of the first result on the card.
    bytes: size of the repo.
    downloads: in the last 30 days.
    updated: ISO 8601 in UTC.
    """

    repo: str
    task: str | None
    backbone: str | None
    metric: tuple[str, float] | None
    bytes: int | None
    downloads: int | None
    updated: str | None
    private: bool


def search(
    query: str | None, task: str | None, backbone: str | None, limit: int, token: str | None = None
) -> list[SearchResult]:
    """Return at most `limit` adapters on the Hub, the last updated first. Raises RemoteError.

    query: part of the repo's name; None for any.
    task: name of the task; None for any.
    backbone: Hub id of the backbone; None for any.
    token: None for `HF_TOKEN` or the token of `hf auth login`.
    """
    tags = [FORMAT_TAG]
    if task is not None:
        tags.append(f"{TASK_TAG}{task}")
    if backbone is not None:
        tags.append(f"base_model:{backbone}")
    with hub_errors("the Hub", token):
        models = hub_api(token).list_models(
            filter=tags,
            search=query,
            sort="last_modified",
            limit=limit,
            expand=["cardData", "lastModified", "tags", "private", "downloads", "usedStorage"],
        )
        return [_found(model) for model in models]


def _found(model: Any) -> SearchResult:
    card = model.card_data.to_dict() if model.card_data is not None else {}
    tags = [str(tag) for tag in model.tags or ()]
    task = next((tag.removeprefix(TASK_TAG) for tag in tags if tag.startswith(TASK_TAG)), None)
    base = card.get("base_model")
    return SearchResult(
        repo=str(model.id),
        task=task,
        backbone=base if isinstance(base, str) else None,
        metric=_metric(card),
        bytes=getattr(model, "used_storage", None),
        downloads=model.downloads,
        updated=None if model.last_modified is None else model.last_modified.isoformat(timespec="seconds"),
        private=bool(model.private),
    )


def _metric(card: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return name and value of the first result of a card, of which any part may be missing or of another type."""
    metric: Mapping[str, Any] = card
    for key in ("model-index", "results", "metrics"):
        found = metric.get(key)
        first = found[0] if isinstance(found, list) and found else None
        metric = first if isinstance(first, dict) else {}
    name, value = metric.get("type"), metric.get("value")
    if not isinstance(name, str) or not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return name, float(value)
