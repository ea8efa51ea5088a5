"""The exceptions of the clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetrunk.core.errors import OneTrunkError


class ClientError(OneTrunkError):
    """A request to the service at `url` failed. The base class of all exceptions of the clients."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(f"{url}: {message}")
        self.url = url


class ServiceError(ClientError):
    """The service refused a request, or one text of it.

    problem: the problem details (RFC 9457): `type`, `title`, `status`, `detail` and further members.
    input: index of the refused text, from 0; None if the whole request was refused.
    """

    def __init__(self, url: str, problem: Mapping[str, Any], input: int | None = None) -> None:
        why = str(problem.get("detail") or problem.get("title") or f"status {problem.get('status')}")
        super().__init__(url, why if input is None else f"text {input + 1}: {why}")
        self.problem = dict(problem)
        self.input = input

    @property
    def status(self) -> int:
        """The HTTP status that `problem` states; 0 if it states none."""
        status = self.problem.get("status")
        return status if isinstance(status, int) else 0

    @property
    def type(self) -> str:
        """The last part of the problem's type, such as `unknown-adapter`; empty without a type."""
        return str(self.problem.get("type", "")).rpartition("/")[2]


class ServiceUnreachable(ClientError):
    """The service did not respond: the connection was refused, broke or timed out."""


class AnswerError(ClientError):
    """The response is malformed or truncated; it may not come from a OneTrunk service."""
