"""The table of names of a cluster holds nothing of a name that is gone."""

from __future__ import annotations

import asyncio
import gc

from onetrunk.core.serving.cluster.name_service import Names
from tests.core.serving.cluster.test_cluster import epoch, found, put


def locks() -> int:
    gc.collect()
    return sum(type(each) is asyncio.Lock for each in gc.get_objects())


def test_a_name_that_is_removed_leaves_no_lock() -> None:
    async def load_and_remove(count: int) -> tuple[int, int]:
        names, before = Names(found, "settings"), locks()
        for number in range(count):
            await put(names, f"customer-{number}", "mood@1")
            await names.remove(await epoch(names), f"customer-{number}")
        return before, locks()

    before, after = asyncio.run(load_and_remove(50))
    assert after == before
