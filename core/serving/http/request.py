"""One HTTP request: its context, and the reading of its body within limits on size, time and memory."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope

from onetrunk.adapters.format.strict_json import JSONFault, loads
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.http.auth import NO_RIGHTS, Grant
from onetrunk.core.serving.http.connection import CONNECTION, Connection
from onetrunk.core.serving.http.problems import MAX_NAME_CHARACTERS, MEDIA_TYPE, Problem, Refusal

JSON_TYPE = "application/json"
REQUEST_ID = "onetrunk.id"
"""Key of the ASGI scope: the request's id, if an outer ASGI application has set it."""
_LARGE_BYTES = 2**16
"""Bodies above this size are parsed in a worker thread, because parsing would block the event loop."""
_TOTAL_BYTES = 2**26
"""Limit on the bytes of all bodies that are being read, unless four bodies of the largest size are more."""
_SLACK = 2**12
"""Added to the computed limits on bytes and on JSON values, for keys, white space and ids."""
_T = TypeVar("_T")


class RequestContext:
    """One request while it is answered.

    id: 16 hex digits, unless an outer ASGI application has put another id under `REQUEST_ID` into the scope.
    began: start time, on the clock of `time.perf_counter`.
    headers: by name in lower case; of a repeated header, the last value.
    repeated: names of the headers that appear more than once.
    route: path of the route as in the OpenAPI document, `other` if the path is unknown.
    params: values of the names in the route's path.
    grant: the rights of the request's token, once the token was checked.
    inputs: number of texts; None for a request without texts.
    status: HTTP status of the response; 0 before the response has begun.
    has_connection: whether the server runs each connection as a `Connection`. Ray's server does not.
    disconnected: done once the client has disconnected. Without a `Connection`, only `receive` notices this.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.id: str = scope.get(REQUEST_ID) or new_id()
        self.began = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.repeated = {
            name for name, count in Counter(name for name, _ in scope["headers"]).items() if count > 1
        }
        self._address: str = (scope.get("client") or ("",))[0]
        self.route = "other"
        self.params: Mapping[str, str] = {}
        self.grant: Grant = NO_RIGHTS
        self.inputs: int | None = None
        self.status = 0
        self._receive = receive
        self._unread = b"content-length" in self.headers or b"transfer-encoding" in self.headers
        self._connection: Connection | None = scope.get("state", {}).get(CONNECTION)
        self.has_connection = self._connection is not None
        if self._connection is None:
            self.disconnected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        else:
            self.disconnected = self._connection.disconnected
            self._connection.request_began()

    @property
    def client(self) -> str:
        """Who sent the request: the name of the token, or the address (its network of 64 bits for IPv6)."""
        if self.grant.name is not None:
            return f"token {self.grant.name}"
        try:
            address = ipaddress.ip_address(self._address)
        except ValueError:  # a Unix socket
            return self._address
        if address.version == 4:
            return self._address
        return str(ipaddress.ip_network((int(address), 64), strict=False))

    def header(self, name: bytes) -> str:
        """Return the value of a header, "" if it is missing. name: in lower case."""
        return self.headers.get(name, b"").decode("latin-1")

    async def receive(self) -> Any:
        """Return the next ASGI message: a part of the body, or `http.disconnect`."""
        if self._connection is None:
            message = await self._receive()
            if message["type"] == "http.disconnect" and not self.disconnected.done():
                self.disconnected.set_result(None)
            return message
        if not self._unread:
            return await self._receive()
        self._connection.body_awaited()
        try:
            message = await self._receive()
        finally:
            self._connection.body_taken()
        self._unread = message.get("more_body", False)
        return message

    def end(self) -> None:
        """Report to the connection that the request has ended: nothing more is read or sent."""
        if self._connection is not None:
            self._connection.request_ended(body_complete=not self._unread)


def new_id() -> str:
    """Return a random request id of 16 hex digits."""
    return f"{random.getrandbits(64):016x}"


def problem_response(problem: Problem, request_id: str, **members: object) -> Response:
    """Return the response of a problem. members: further keys of its object."""
    value = problem.to_json(**members, instance=request_id)
    return JSONResponse(value, problem.status, dict(problem.headers), MEDIA_TYPE)


class BodyReader:
    """Reads the bodies of requests within `limits`."""

    def __init__(self, limits: Limits) -> None:
        self._max_bytes, self._seconds = limits.body_bytes, limits.request_seconds
        self._max_values = max_values(limits, limits.inputs)
        self._max_total = max(_TOTAL_BYTES, 4 * limits.body_bytes)
        self._total = 0

    async def read_json(self, request: RequestContext) -> Any:
        """Return the JSON value of a request's body.

        Raises Refusal: 400 if the body is not JSON, 408 if it arrives too slowly, 413 if it is over a limit, 415 if
        its content type is not JSON, 429 if too many large bodies arrive at once. Raises ClientDisconnect.
        """
        check_content_type(request, JSON_TYPE)
        announced = request.header(b"content-length")
        if announced.isdigit() and int(announced[:20]) > self._max_bytes:
            raise self._too_large()
        message = await self.read_part(request)
        data: bytes = message["body"]
        if len(data) > self._max_bytes:
            raise self._too_large()
        if message.get("more_body", False):
            data = await self._rest(request, data)
        if len(data) <= _LARGE_BYTES:
            return read_json(data, self._max_values)
        return await asyncio.to_thread(read_json, data, self._max_values)

    async def read_part(self, request: RequestContext, until: float | None = None) -> Any:
        """Return the next part of a body as an ASGI message.

        until: deadline on the event loop's clock; by default, `Limits.request_seconds` from now.
        Raises Refusal (408) after the deadline, and ClientDisconnect.
        """
        try:
            async with asyncio.timeout(self._seconds) if until is None else asyncio.timeout_at(until):
                message = await request.receive()
        except TimeoutError:
            detail = (
                f"the body did not arrive within {self._seconds:g} s; send it faster, or in smaller requests"
            )
            raise Refusal("body-too-slow", detail, {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message

    async def _rest(self, request: RequestContext, first: bytes) -> bytes:
        """Return the whole body. first: its start, which was already received."""
        data, more = bytearray(first), True
        until = asyncio.get_running_loop().time() + self._seconds
        self._total += len(data)
        try:
            while more:
                message = await self.read_part(request, until)
                more, part = message.get("more_body", False), message.get("body", b"")
                data += part
                self._total += len(part)
                if len(data) > self._max_bytes:
                    raise self._too_large()
                if self._total > self._max_total:
                    detail = "too many large bodies arrive at once; try again in 1 s"
                    raise Refusal("queue-full", detail, {"Retry-After": "1"})
        finally:
            self._total -= len(data)
        return bytes(data)

    def _too_large(self) -> Refusal:
        detail = f"the body has over {self._max_bytes} bytes, the limit; send fewer inputs in a request"
        return Refusal("body-too-large", detail, most=self._max_bytes)


def read_json(data: bytes, limit: int) -> Any:
    """Return the value of a JSON document in UTF-8.

    limit: maximum number of values, nested values included. Decoding millions of values would block the process.
    Raises Refusal: 413 above the limit, 400 with line and column if the document is not JSON.
    """
    if _count_values(data) > limit:  # or commas and brackets within strings were counted
        bare = data.replace(rb"\\", b"").replace(rb"\"", b"")
        if bare.count(b'"') > 2 * limit or _count_values(b"".join(bare.split(b'"')[::2])) > limit:
            detail = f"the JSON has over {limit} values, the limit for its inputs"
            raise Refusal("body-too-large", detail, most=limit)
    try:
        return loads(data)
    except JSONFault as fault:
        raise Refusal("malformed-json", f"the document {fault}") from None


def _count_values(data: bytes) -> int:
    """Return an upper bound of the number of JSON values: each, except the first, follows a comma or a bracket."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def max_line_bytes(limits: Limits) -> int:
    """Return the limit on a line of a stream in bytes. A character in JSON has up to 12 bytes: two escapes."""
    characters = limits.characters + (limits.adapters + 1) * MAX_NAME_CHARACTERS
    return min(limits.body_bytes, 12 * characters + _SLACK)


def max_values(limits: Limits, inputs: int) -> int:
    """Return the limit on the JSON values of a request with `inputs` inputs: twice as many as needed.

    The words of inputs count, too: their limit is that of the characters of one text.
    """
    return 2 * inputs * (limits.adapters + 8) + limits.characters + _SLACK


def check_content_type(request: RequestContext, expected: str) -> None:
    """Raise Refusal (415) unless a request has the content type `expected` and no compression.

    This also protects against requests from other web sites: a browser sends these with a JSON content type only
    after a preflight request, which the service refuses.
    """
    given = request.header(b"content-type").partition(";")[0].strip().lower()
    if given != expected:
        shown = repr(given[:100]) if given else "none"
        raise Refusal("unsupported-media-type", f"expected Content-Type: {expected}, found {shown}")
    if request.header(b"content-encoding").strip().lower() not in ("", "identity"):
        raise Refusal("unsupported-media-type", "the body is compressed; send it without Content-Encoding")


async def cancel_on_disconnect(request: RequestContext, work: Awaitable[_T]) -> _T:
    """Return the result of `work`; cancel it if the client disconnects. Raises ClientDisconnect.

    `work` runs in the current task: a task of its own would make each prediction 45 µs slower.
    """
    task, disconnected, ended = asyncio.current_task(), False, False
    if task is None:
        raise RuntimeError("cancel_on_disconnect was awaited outside of a task; await it in a handler")

    def cancel(_: object) -> None:
        nonlocal disconnected
        if not ended:
            disconnected = True
            task.cancel()

    # Without a `Connection`, `receive` must run to complete `disconnected`.
    watcher = None if request.has_connection else asyncio.create_task(request.receive())
    request.disconnected.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if disconnected and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        ended = True
        request.disconnected.remove_done_callback(cancel)
        if watcher is not None:
            watcher.cancel()
