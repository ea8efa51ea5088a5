"""What a service can refuse; everything else that can go wrong has its error in `onetrunk.core.errors`.

ServingError
├── Busy                 not now: `retry_after` says when
│   ├── QueueFull        too much is waiting
│   ├── OverTime         the request took too long
│   └── ShuttingDown     the service is about to end
├── UnknownName          no adapter serves under this name
├── TextTooLong          more characters than a text may have
├── TooManyTokens        more tokens, over all its adapters, than an input may have
├── TooManyAdapters      more adapters than a text may be asked of
├── AdapterUnavailable   it was evicted, and the store cannot bring it back
└── AnswerFailed         what a plugin made for the text raised
"""

from __future__ import annotations

from collections.abc import Sequence

from onetrunk.adapters.errors import first_few
from onetrunk.core.errors import OneTrunkError


class ServingError(OneTrunkError):
    """A request that is refused, whole or one input of it."""


class Busy(ServingError):
    """Not now; the same request may succeed after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}; try again in {retry_after} s")
        self.retry_after = retry_after


class QueueFull(Busy):
    """As many wait as may. of: what is counted."""

    def __init__(self, waiting: int, limit: int, retry_after: int, of: str = "tokens") -> None:
        super().__init__(f"{waiting} {of} wait, at most {limit} may", retry_after)


class OverTime(Busy):
    """The request took longer than a request may."""

    def __init__(self, seconds: float, retry_after: int) -> None:
        super().__init__(f"the request took over {seconds:g} s and was dropped", retry_after)


class ShuttingDown(Busy):
    """The service answers what it has accepted, and takes nothing more."""

    def __init__(self, retry_after: int = 5) -> None:
        super().__init__("the service is shutting down", retry_after)


class UnknownName(ServingError):
    """No adapter serves under `name`; `known` are the names that do."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no adapter {name!r} is served; served are: {first_few(known, 20) or 'none'}")
        self.name = name
        self.known = tuple(known)


class TextTooLong(ServingError):
    """A text has `characters`, more than `most`."""

    def __init__(self, characters: int, most: int) -> None:
        super().__init__(f"the text has {characters} characters, at most {most} are read; cut it")
        self.characters = characters
        self.most = most


class TooManyTokens(ServingError):
    """A text of `each` tokens is asked of so many `adapters` that these are more than `most` in all."""

    def __init__(self, each: int, adapters: int, most: int) -> None:
        self.tokens = each * adapters
        self.most = most
        super().__init__(
            f"the text has {each} tokens, for {adapters} adapters {self.tokens}; at most {most} are computed for "
            "an input; cut it, or ask fewer adapters at once"
        )


class TooManyAdapters(ServingError):
    """A text is asked of `count` adapters, more than `most`."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"the text is asked of {count} adapters, at most {most} at once; ask twice")
        self.count = count
        self.most = most


class AdapterUnavailable(ServingError):
    """The updates of `version` had to be read from the store again, which failed."""

    def __init__(self, version: str, reason: object) -> None:
        super().__init__(f"{version} cannot be brought back: {reason}")
        self.version = version


class AnswerFailed(ServingError):
    """What the plugin of `version` has made raised for this text; the log has the fault."""

    def __init__(self, version: str) -> None:
        super().__init__(f"{version} could not answer this text; the service's log says why")
        self.version = version


class ExitRefused(ServingError):
    """The plugin of `version` tried to end the process (SystemExit, KeyboardInterrupt); only this text fails."""

    def __init__(self, version: str) -> None:
        super().__init__(
            f"{version} tried to end the service instead of answering this text; the service goes on, and its log "
            "says where"
        )
        self.version = version
