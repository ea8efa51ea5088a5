"""Search for adapters on the Hub, by the tags of their cards."""

from __future__ import annotations

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
    downloads: number of downloads in the last 30 days.
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
    card = model.card_data  # anyone can write it: each part may be missing or have another type
    base, results = getattr(card, "base_model", None), getattr(card, "eval_results", None)
    first = results[0] if isinstance(results, list) and results else None
    name, value = getattr(first, "metric_type", None), getattr(first, "metric_value", None)
    is_metric = isinstance(name, str) and isinstance(value, int | float) and not isinstance(value, bool)
    tags = [str(tag) for tag in model.tags or ()]
    return SearchResult(
        repo=str(model.id),
        task=next((tag.removeprefix(TASK_TAG) for tag in tags if tag.startswith(TASK_TAG)), None),
        backbone=base if isinstance(base, str) else None,
        metric=(str(name), float(value or 0)) if is_metric else None,
        bytes=getattr(model, "used_storage", None),
        downloads=model.downloads,
        updated=None if model.last_modified is None else model.last_modified.isoformat(timespec="seconds"),
        private=bool(model.private),
    )
