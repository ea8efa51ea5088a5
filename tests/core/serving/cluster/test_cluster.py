"""What a cluster is made of, without Ray: names, shared calls, what gateways know, and errors that travel."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters import errors as store_errors
from onetrunk.adapters.methods.bank import Tier, Usage
from onetrunk.core import errors as core_errors
from onetrunk.core.errors import OneTrunkError, UnknownAdapter, UsageError
from onetrunk.core.serving.cluster.call_batching import FULL, Lines
from onetrunk.core.serving.cluster.gateway_state import Known
from onetrunk.core.serving.cluster.messages import Report
from onetrunk.core.serving.cluster.name_service import Names
from onetrunk.core.serving.cluster.name_table import Entry, Table
from onetrunk.core.serving.cluster.proxy_middleware import Proxied
from onetrunk.core.serving.cluster.ray_args import settings_of
from onetrunk.core.serving.cluster.replica_choice import preferred
from onetrunk.core.serving.engine import errors as serving_errors
from onetrunk.core.serving.engine.backend import About
from onetrunk.core.serving.engine.errors import QueueFull, UnknownName
from onetrunk.core.serving.engine.requests import Input
from onetrunk.core.serving.engine.status import Status
from onetrunk.core.serving.http.request_context import ID

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def entry(reference: str) -> Entry:
    return Entry(f"{reference}#id", reference, reference, "sentiment", ("bad", "good"), WHEN)


async def found(reference: str) -> Entry | OneTrunkError:
    """Load what has a number; nothing else is there."""
    return entry(reference) if "@" in reference else UnknownAdapter(reference, ["mood@1"], Path("store"))


async def epoch(names: Names) -> str:
    table = (await names.watch(("", 0))).table
    assert table is not None
    return table.epoch


async def put(names: Names, name: str, reference: str) -> Any:
    return await names.put(await epoch(names), name, reference)


def names_after(*loads: tuple[str, str]) -> tuple[Names, Table]:
    async def load() -> tuple[Names, Table]:
        names = Names(found, "settings")
        for pair in loads:
            await put(names, *pair)
        view = await names.watch(("", 0))
        assert view.table is not None
        return names, view.table

    return asyncio.run(load())


def test_a_load_tells_what_it_replaced() -> None:
    async def loads() -> list[Any]:
        names = Names(found, "settings")
        return [await put(names, "mood", reference) for reference in ("mood@1", "mood@2")]

    (first, nothing), (second, before) = asyncio.run(loads())
    assert (nothing, before) == (None, "mood@1")
    assert (first.entries["mood"].version, second.entries["mood"].version) == ("mood@1", "mood@2")
    assert second.revision == first.revision + 1


def test_a_load_that_fails_changes_nothing() -> None:
    async def fail() -> tuple[object, Table, Table]:
        names = Names(found, "settings")
        before, _ = await put(names, "mood", "mood@1")
        failed = await put(names, "mood", "nobody")
        after = (await names.watch(("", 0))).table
        assert after is not None
        return failed, before, after

    failed, before, after = asyncio.run(fail())
    assert isinstance(failed, UnknownAdapter)
    assert after == before


def test_loads_of_one_name_end_in_the_order_they_were_asked_for() -> None:
    async def slow_first(reference: str) -> Entry | OneTrunkError:
        await asyncio.sleep(0.05 if reference == "mood@1" else 0)
        return entry(reference)

    async def both() -> str:
        names = Names(slow_first, "settings")
        await asyncio.gather(put(names, "mood", "mood@1"), put(names, "mood", "mood@2"))
        table = (await names.watch(("", 0))).table
        assert table is not None
        return table.entries["mood"].version

    assert asyncio.run(both()) == "mood@2"


def test_who_removes_what_is_not_there_is_told_what_is() -> None:
    async def remove() -> object:
        names = Names(found, "settings")
        await put(names, "mood", "mood@1")
        return await names.remove(await epoch(names), "nobody")

    refused = asyncio.run(remove())
    assert isinstance(refused, UnknownName)
    assert refused.known == ("mood",)


def test_who_watches_hears_of_a_change_when_it_happens() -> None:
    async def watch() -> tuple[Table | None, float]:
        names, loop = Names(found, "settings"), asyncio.get_running_loop()
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
def test_what_cannot_be_served_at_first_is_skipped_only_where_nobody_named_it(skip: bool) -> None:
    async def begin() -> list[str]:
        names = Names(found, "settings")
        await names.begin({"mood": "mood@1", "gone": "gone"}, skip=skip)
        table = (await names.watch(("", 0))).table
        assert table is not None
        return list(table.entries)

    if skip:
        assert asyncio.run(begin()) == ["mood"]
    else:
        with pytest.raises(UnknownAdapter, match="no adapter 'gone'"):
            asyncio.run(begin())


def test_a_keeper_that_was_started_again_takes_the_table_of_a_gateway() -> None:
    _, lost = names_after(("mood", "mood@1"), ("mood", "mood@2"))
    names, fresh = names_after(("mood", "mood@1"))
    assert lost.outlives(fresh)
    names.adopt(lost)
    assert asyncio.run(names.watch(fresh.mark)).table == lost


def test_a_keeper_that_was_started_again_changes_nothing_for_a_gateway_whose_table_it_has_lost() -> None:
    names, table = names_after(("mood", "mood@1"))

    async def change() -> tuple[object, object, Table | None]:
        done = await names.put("lost", "mood", "mood@2"), await names.remove("lost", "mood")
        return *done, (await names.watch(("", 0))).table

    assert asyncio.run(change()) == (None, None, table)


def test_a_keeper_does_not_take_back_an_older_table_or_one_of_other_settings() -> None:
    names, table = names_after(("mood", "mood@1"), ("mood", "mood@2"))
    _, older = names_after(("mood", "mood@1"))
    names.adopt(older)
    names.adopt(Table("other settings", "other", 99))
    assert asyncio.run(names.watch(("", 0))).table == table


def test_the_keeper_of_names_is_a_small_process() -> None:
    code = "import sys, onetrunk.core.serving.cluster.name_service; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


Calls = list[tuple[str, list[Sequence[Input]], bool]]


def lines(calls: Calls, seconds: float = 0.0, fails: bool = False) -> Lines[list[str]]:
    """Return lines whose calls are noted, and answer each request with its texts."""

    async def call(key: str, requests: list[Sequence[Input]], wait: bool) -> list[list[str]]:
        calls.append((key, requests, wait))
        await asyncio.sleep(seconds)
        if fails:
            raise RuntimeError("lost")
        return [[each.text for each in inputs] for inputs in requests]

    return Lines(call, 0.01)


def some(*texts: str) -> list[Input]:
    return [Input(text, ("mood",)) for text in texts]


def test_requests_for_an_adapter_share_a_call_and_each_has_its_own_outcome() -> None:
    calls: Calls = []

    async def ask() -> list[list[str]]:
        shared = lines(calls)
        wanted: list[tuple[str, list[Input], bool]] = [
            ("a", some("1"), False),
            ("a", some("2", "3"), False),
            ("b", some("4"), False),
            ("a", some("5"), True),
        ]
        return await asyncio.gather(*(shared.send(*each) for each in wanted))

    assert asyncio.run(ask()) == [["1"], ["2", "3"], ["4"], ["5"]]
    assert [(key, len(requests), wait) for key, requests, wait in calls] == [
        ("a", 2, False),
        ("b", 1, False),
        ("a", 1, True),
    ]


def test_a_call_that_is_full_takes_no_more() -> None:
    calls: Calls = []

    async def ask() -> None:
        shared = lines(calls)
        await asyncio.gather(*(shared.send("a", some("x"), False) for _ in range(FULL + 1)))

    asyncio.run(ask())
    assert [len(requests) for _, requests, _ in calls] == [FULL, 1]


def test_who_gives_up_leaves_the_others_in_the_call_their_outcome() -> None:
    async def ask() -> list[str]:
        shared = lines([], seconds=0.05)
        first = asyncio.create_task(shared.send("a", some("1"), False))
        second = asyncio.create_task(shared.send("a", some("2"), False))
        await asyncio.sleep(0.03)
        first.cancel()
        return await second

    assert asyncio.run(ask()) == ["2"]


def test_a_call_that_everybody_has_given_up_ends_and_the_next_request_has_a_new_one() -> None:
    ended: list[str] = []

    async def call(key: str, requests: list[Sequence[Input]], wait: bool) -> list[int]:
        try:
            await asyncio.sleep(0.05 if requests[0][0].text == "quick" else 60)
        except asyncio.CancelledError:
            ended.append(requests[0][0].text)
            raise
        return [len(inputs) for inputs in requests]

    async def ask() -> int:
        shared: Lines[int] = Lines(call, 0.0)
        asked = [asyncio.create_task(shared.send("a", some("slow"), False)) for _ in range(2)]
        await asyncio.sleep(0.02)
        for each in asked:
            each.cancel()
        return await shared.send("a", some("quick"), False)

    assert asyncio.run(ask()) == 1
    assert ended == ["slow"]


def test_a_call_that_fails_fails_every_request_in_it() -> None:
    async def ask() -> list[object]:
        shared = lines([], fails=True)
        return await asyncio.gather(
            *(shared.send("a", some("x"), False) for _ in range(2)), return_exceptions=True
        )

    assert [str(each) for each in asyncio.run(ask())] == ["lost", "lost"]


def report(state: str, tier: Tier, waiting: int = 0) -> Report:
    status = Status(state, waiting, waiting, 100, None, 0.0, 1, 0.0)
    return Report(About("tiny", "cpu", "fp32"), status, Usage(*[1] * 10), {"mood@1#id": tier})


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "broken"),
        (["overloaded"], "overloaded"),
        (["overloaded", "ready"], "ready"),
        (["broken", "ready"], "ready"),
    ],
)
def test_a_cluster_is_ready_as_long_as_one_replica_is(states: list[str], expected: str) -> None:
    known = Known()
    known.reports = {str(i): report(state, "disk", 3) for i, state in enumerate(states)}
    status = known.status()
    assert status.state == expected
    assert (status.waiting_tokens, status.limit_tokens) == (3 * len(states), 100 * len(states))
    assert known.usage.installed == len(states)


def test_a_version_is_where_the_best_replica_has_it() -> None:
    known = Known()
    known.take(names_after(("mood", "mood@1"))[1])
    assert known.one("mood").tier == "disk"
    known.reports = {
        "a": report("ready", "host"),
        "b": report("ready", "device"),
        "c": report("ready", "disk"),
    }
    assert known.one("mood").tier == "device"


def test_a_gateway_keeps_the_newest_table() -> None:
    _, table = names_after(("mood", "mood@1"))
    newer = table.changed("mood", entry("mood@2"))
    known = Known()
    known.take(newer)
    known.take(table)
    assert known.one("mood").version == "mood@2"


@pytest.mark.parametrize(
    ("calls", "expected"), [([0, 0, 0], "ab"), ([4, 5, 0], "a"), ([9, 7, 3], "b"), ([9, 9, 0], "")]
)
def test_a_replica_that_has_the_adapter_is_preferred_until_it_is_much_busier(
    calls: list[int], expected: str
) -> None:
    assert preferred(["a", "b"], dict(zip("abc", calls, strict=True))) == list(expected)


@pytest.mark.parametrize(
    ("toml", "args", "why"),
    [
        ("", {"config": "serve.toml"}, "config is 'serve.toml'; expected an absolute path"),
        ("", {"residence": 9}, "unknown argument 'residence'; expected config and residents"),
        ("", {"residents": 63}, "residents is 63; a text may be asked of 64 adapters"),
        ("port = 80", {}, "Ray listens; set host and port in http_options"),
        ("no = 1", {}, "unknown key no"),
    ],
)
def test_arguments_that_cannot_be_are_told(tmp_path: Path, toml: str, args: dict[str, Any], why: str) -> None:
    (tmp_path / "serve.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(UsageError, match=why):
        settings_of({"config": str(tmp_path / "serve.toml"), **args})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the id that the request was given."""
    headers = [(b"x-request-id", b"own"), (b"x", scope[ID].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def proxied(client: str, local: bool) -> tuple[int, dict[bytes, bytes]]:
    """Return status and headers of what a client is answered behind a proxy."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "client": (client, 9),
        "headers": [(b"x-request-id", b"1")],
    }
    asyncio.run(Proxied(echo, local=local)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("client", "local", "status"),
    [("127.0.0.1", True, 200), ("::1", True, 200), ("10.0.0.5", True, 403), ("10.0.0.5", False, 200)],
)
def test_without_tokens_only_the_own_machine_is_answered_behind_a_proxy(
    client: str, local: bool, status: int
) -> None:
    assert proxied(client, local)[0] == status


def test_behind_a_proxy_a_request_has_the_id_that_the_proxy_gave_it() -> None:
    assert proxied("127.0.0.1", True)[1] == {b"x": b"1"}


def kinds(root: type[OneTrunkError]) -> Iterator[type[OneTrunkError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize(
    "error",
    [
        QueueFull(9, 8, 3),
        UnknownName("a", ["b"]),
        UnknownAdapter("a", ["b"], Path("store")),
        store_errors.HashMismatch(Path("store"), "file", "0" * 64, "1" * 64),
        core_errors.DataError("file:1", "is none", ["also"]),
        core_errors.TrainingDiverged(1, 2, "lower the rate"),
        serving_errors.OverTime(30, 5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_crosses_processes_as_what_it_is(error: OneTrunkError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_no_kind_of_error_has_a_pickling_of_its_own() -> None:
    assert [
        kind.__name__ for kind in kinds(OneTrunkError) if kind.__reduce__ is not OneTrunkError.__reduce__
    ] == []
