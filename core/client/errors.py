"""What a client can meet.

ClientError               the service at `url` did not do what was asked
├── ServiceError          it refuses, for the reason in `problem`
├── ServiceUnreachable    no answer: nothing listens, the connection broke, or it takes too long
└── AnswerError           an answer that no service of ours gives, or one that breaks off
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetrunk.core.errors import OneTrunkError


class ClientError(OneTrunkError):
    """The service at `url` did not do what was asked."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(f"{url}: {message}")
        self.url = url


class ServiceError(ClientError):
    """The service refuses the request, or one text of it.

    problem: the members of its RFC 9457 answer: `type`, `title`, `status`, `detail` and what they are about.
    input: the number of the text that it is about, from 0; None if it is about the request.
    """

    def __init__(self, url: str, problem: Mapping[str, Any], input: int | None = None) -> None:
        why = str(problem.get("detail") or problem.get("title") or f"status {problem.get('status')}")
        super().__init__(url, why if input is None else f"text {input + 1}: {why}")
        self.problem = dict(problem)
        self.input = input

    @property
    def status(self) -> int:
        """The HTTP status that the problem has; 0 if it does not say."""
        status = self.problem.get("status")
        return status if isinstance(status, int) else 0

    @property
    def type(self) -> str:
        """What kind of problem it is, such as `unknown-adapter`."""
        return str(self.problem.get("type", "")).rpartition("/")[2]


class ServiceUnreachable(ClientError):
    """No answer: nothing listens there, the connection broke, or it takes too long."""


class AnswerError(ClientError):
    """An answer that no service of ours gives, or one that breaks off."""
