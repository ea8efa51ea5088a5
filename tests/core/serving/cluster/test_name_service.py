"""The name service: loads, removals, waiting for changes, restarts."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import Any

import pytest

from onetrunk.core.errors import OneTrunkError, UnknownAdapter
from onetrunk.core.serving.cluster.messages import NameEntry, NameTable
from onetrunk.core.serving.cluster.name_service import NameService
from onetrunk.core.serving.engine.errors import UnknownName
from tests.core.serving.cluster.sample_names import entry, epoch, found, names_after, put


def test_a_load_returns_the_version_it_replaced() -> None:
    async def loads() -> list[Any]:
        names = NameService(found, "settings")
        return [await put(names, "mood", reference) for reference in ("mood@1", "mood@2")]

    (first, nothing), (second, before) = asyncio.run(loads())
    assert (nothing, before) == (None, "mood@1")
    assert (first.entries["mood"].version, second.entries["mood"].version) == ("mood@1", "mood@2")
    assert second.revision == first.revision + 1


def test_a_load_that_fails_changes_nothing() -> None:
    async def fail() -> tuple[object, NameTable, NameTable]:
        names = NameService(found, "settings")
        before, _ = await put(names, "mood", "mood@1")
        failed = await put(names, "mood", "nobody")
        after = (await names.watch(("", 0))).table
        assert after is not None
        return failed, before, after

    failed, before, after = asyncio.run(fail())
    assert isinstance(failed, UnknownAdapter)
    assert after == before


def test_loads_of_one_name_take_effect_in_the_order_requested() -> None:
    async def slow_first(reference: str) -> NameEntry | OneTrunkError:
        await asyncio.sleep(0.05 if reference == "mood@1" else 0)
        return entry(reference)

    async def both() -> str:
        names = NameService(slow_first, "settings")
        await asyncio.gather(put(names, "mood", "mood@1"), put(names, "mood", "mood@2"))
        table = (await names.watch(("", 0))).table
        assert table is not None
        return table.entries["mood"].version

    assert asyncio.run(both()) == "mood@2"


def test_removing_an_unknown_name_returns_an_error_with_the_known_names() -> None:
    async def remove() -> object:
        names = NameService(found, "settings")
        await put(names, "mood", "mood@1")
        return await names.remove(await epoch(names), "nobody")

    refused = asyncio.run(remove())
    assert isinstance(refused, UnknownName)
    assert refused.known == ("mood",)


def test_watch_returns_as_soon_as_the_table_changes() -> None:
    async def watch() -> tuple[NameTable | None, float]:
        names, loop = NameService(found, "settings"), asyncio.get_running_loop()
        first = (await names.watch(("", 0))).table
        assert first is not None
        began, watching = loop.time(), asyncio.create_task(names.watch(first.mark))
        await asyncio.sleep(0.05)
        await put(names, "mood", "mood@1")
        return (await watching).table, loop.time() - began

    table, seconds = asyncio.run(watch())
    assert table is not None
    assert list(table.entries) == ["mood"]
    assert seconds < 0.5


@pytest.mark.parametrize("skip", [True, False])
def test_a_failed_load_at_startup_is_skipped_only_if_the_name_was_not_configured(skip: bool) -> None:
    async def begin() -> list[str]:
        names = NameService(found, "settings")
        await names.begin({"mood": "mood@1", "gone": "gone"}, skip=skip)
        table = (await names.watch(("", 0))).table
        assert table is not None
        return list(table.entries)

    if skip:
        assert asyncio.run(begin()) == ["mood"]
    else:
        with pytest.raises(UnknownAdapter, match="no adapter 'gone'"):
            asyncio.run(begin())


def test_a_restarted_name_service_adopts_the_table_of_a_gateway() -> None:
    _, lost = names_after(("mood", "mood@1"), ("mood", "mood@2"))
    names, fresh = names_after(("mood", "mood@1"))
    assert lost.outlives(fresh)
    asyncio.run(names.adopt(lost))
    assert asyncio.run(names.watch(fresh.mark)).table == lost


def test_a_restarted_name_service_refuses_changes_based_on_a_lost_table() -> None:
    names, table = names_after(("mood", "mood@1"))

    async def change() -> tuple[object, object, NameTable | None]:
        done = await names.put("lost", "mood", "mood@2"), await names.remove("lost", "mood")
        return *done, (await names.watch(("", 0))).table

    assert asyncio.run(change()) == (None, None, table)


def test_a_name_service_does_not_adopt_an_older_table_or_one_with_other_settings() -> None:
    names, table = names_after(("mood", "mood@1"), ("mood", "mood@2"))
    _, older = names_after(("mood", "mood@1"))
    asyncio.run(names.adopt(older))
    asyncio.run(names.adopt(NameTable("other settings", "other", 99)))
    assert asyncio.run(names.watch(("", 0))).table == table


def test_the_name_service_does_not_import_torch() -> None:
    code = "import sys, onetrunk.core.serving.cluster.name_service; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def locks() -> int:
    gc.collect()
    return sum(type(each) is asyncio.Lock for each in gc.get_objects())


def test_a_name_that_is_removed_leaves_no_lock() -> None:
    async def load_and_remove(count: int) -> tuple[int, int]:
        names, before = NameService(found, "settings"), locks()
        for number in range(count):
            await put(names, f"customer-{number}", "mood@1")
            await names.remove(await epoch(names), f"customer-{number}")
        return before, locks()

    before, after = asyncio.run(load_and_remove(50))
    assert after == before
