"""Errors of the serving engine. All other errors are in `onetrunk.core.errors`."""

from __future__ import annotations

from collections.abc import Sequence

from onetrunk.adapters.errors import first_few
from onetrunk.core.errors import OneTrunkError


class ServingError(OneTrunkError):
    """Base of the errors of a request, or of one text of it, that is refused or fails."""


class Busy(ServingError):
    """Base of the temporary errors: the same request may succeed after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}; try again in {retry_after} s")
        self.retry_after = retry_after


class QueueFull(Busy):
    """The queue has no capacity left.

    waiting, limit: number of units in the queue, and the maximum.
    unit: what is counted, in the plural.
    """

    def __init__(self, waiting: int, limit: int, retry_after: int, unit: str = "tokens") -> None:
        super().__init__(f"the queue is full: {waiting} {unit} wait, the limit is {limit}", retry_after)


class OverTime(Busy):
    """The request exceeded its time limit of `seconds`."""

    def __init__(self, seconds: float, retry_after: int) -> None:
        super().__init__(f"the request took over {seconds:g} s and was dropped", retry_after)


class ShuttingDown(Busy):
    """The service is shutting down: it answers accepted requests, and refuses new ones."""

    def __init__(self, retry_after: int = 5) -> None:
        super().__init__("the service is shutting down", retry_after)


class UnknownName(ServingError):
    """No adapter is served as `name`; `known` has all served names."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"adapter {name!r} is not served; served adapters: {first_few(known, 20) or 'none'}")
        self.name = name
        self.known = tuple(known)


class TextTooLong(ServingError):
    """A text has `characters` characters, more than `most`."""

    def __init__(self, characters: int, most: int) -> None:
        super().__init__(f"the text has {characters} characters, at most {most} are allowed; shorten it")
        self.characters = characters
        self.most = most


class TooManyTokens(ServingError):
    """A text has `each` tokens for each of its `adapters`; the product is more than `most`."""

    def __init__(self, each: int, adapters: int, most: int) -> None:
        self.tokens = each * adapters
        self.most = most
        super().__init__(
            f"the text has {each} tokens, for {adapters} adapters {self.tokens}; at most {most} are allowed; "
            "shorten it, or request fewer adapters at once"
        )


class TextTooSlow(ServingError):
    """A text has `tokens` tokens, over all windows and adapters; `most` can be computed in the time limit.

    characters: length of the text.
    seconds: the time limit.
    """

    def __init__(self, characters: int, tokens: int, most: int, seconds: float) -> None:
        super().__init__(
            f"the text has {characters} characters and takes {tokens} tokens of computation; at the measured speed "
            f"the service computes {most} tokens in its time limit of {seconds:g} s; shorten the text, or request "
            "fewer adapters at once"
        )
        self.tokens = tokens
        self.most = most


class TooManyAdapters(ServingError):
    """A text requests `count` adapters, more than `most`."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(
            f"{count} adapters requested for one text, at most {most} are allowed; split the request"
        )
        self.count = count
        self.most = most


class AdapterUnavailable(ServingError):
    """The weights of `version` were evicted from memory, and could not be reloaded."""

    def __init__(self, version: str, reason: object) -> None:
        super().__init__(f"{version} cannot be reloaded: {reason}")
        self.version = version


class LoadTimeout(ServingError):
    """A load took longer than `seconds` and was given up."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"loading {name} took over {seconds:g} s and was given up; what was served before is still served; try "
            "again later, or raise load_seconds"
        )
        self.seconds = seconds


class AnswerFailed(ServingError):
    """The plugin of `version` raised an exception for a text; the log has the traceback."""

    def __init__(self, version: str) -> None:
        super().__init__(f"{version} could not answer this text; the service's log says why")
        self.version = version


class ExitRefused(ServingError):
    """The plugin of `version` raised SystemExit or KeyboardInterrupt for a text; the service continues."""

    def __init__(self, version: str) -> None:
        super().__init__(
            f"{version} tried to end the service instead of answering this text; the service continues, and its "
            "log has the traceback"
        )
        self.version = version
