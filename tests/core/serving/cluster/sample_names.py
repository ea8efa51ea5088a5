"""A name service without Ray: sample entries, and the calls that a gateway makes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from onetrunk.core.errors import OneTrunkError, UnknownAdapter
from onetrunk.core.serving.cluster.messages import NameEntry, NameTable
from onetrunk.core.serving.cluster.name_service import NameService

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def entry(reference: str) -> NameEntry:
    return NameEntry(f"{reference}#id", reference, reference, "sentiment", ("bad", "good"), WHEN)


async def found(reference: str) -> NameEntry | OneTrunkError:
    """Resolve a reference: versions with a number exist, all others are unknown."""
    return entry(reference) if "@" in reference else UnknownAdapter(reference, ["mood@1"], Path("store"))


async def epoch(names: NameService) -> str:
    table = (await names.watch(("", 0))).table
    assert table is not None
    return table.epoch


async def put(names: NameService, name: str, reference: str) -> Any:
    return await names.put(await epoch(names), name, reference)


def names_after(*loads: tuple[str, str]) -> tuple[NameService, NameTable]:
    async def load() -> tuple[NameService, NameTable]:
        names = NameService(found, "settings")
        for pair in loads:
            await put(names, *pair)
        view = await names.watch(("", 0))
        assert view.table is not None
        return names, view.table

    return asyncio.run(load())
