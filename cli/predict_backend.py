"""Where the answers of `adapters predict` come from: a trunk in this process, or a service.

No torch is imported where it is a service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.remotes.locations import is_location
from onetrunk.cli.backbones import needed_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.quiet import load_backbone
from onetrunk.cli.sharing import located, read_token

if TYPE_CHECKING:
    from onetrunk.core.tasks.prediction import Prediction

Answer = Callable[[Iterable[str]], Iterator[Sequence["Prediction"]]]
"""Answers a stream of texts with the adapters that it was made for; holds a bounded number of them."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is done.

    url: of a service; None for this process. token: the file with the token for it, - for stdin; None for none.
    """

    url: str | None
    token: str | None

    def check(self, context: click.Context, running: Iterable[str], *, stdin: bool) -> None:
        """Raise UsageError for options that do not go together.

        running: the names of those that say how to run a trunk. stdin: whether the texts come from there.
        """
        if self.url == "":
            raise click.UsageError("the URL is empty; give one after --url")
        if self.url is None and self.token is not None:
            raise click.UsageError("--token is for a service; give its --url, too")
        if self.token == "-" and stdin:
            raise click.UsageError(
                "stdin cannot be both, the token and the texts; give one of them in a file"
            )
        default = ParameterSource.DEFAULT
        given = [name for name in running if context.get_parameter_source(name) is not default]
        if self.url is not None and given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise click.UsageError(f"not with --url: {options}; the service runs as it was started")


@contextmanager
def answering(
    place: Place,
    context: click.Context,
    adapters: Sequence[str],
    running: Mapping[str, Any],
    chunk: int | None,
) -> Iterator[Answer]:
    """Yield what answers with `adapters`.

    running: the values of `running_options`. chunk: as for `OneTrunk.predict_stream`; None for the default.
    """
    if place.url is None:
        yield _by_trunk(context, adapters, running, chunk)
        return
    from onetrunk.core.client import Client
    from onetrunk.core.client.requests import CHUNK

    with Client(place.url, read_token(place.token)) as client:
        yield lambda texts: client.predict_stream(texts, adapters, chunk=chunk or CHUNK)


def _by_trunk(
    context: click.Context, references: Sequence[str], running: Mapping[str, Any], chunk: int | None
) -> Answer:
    """Load the backbone that all `references` need, and them. Raises UsageError if they need different ones."""
    stored = [located(lambda: plugin_host(context), each, running["backbone"]) for each in references]
    name, revision = needed_backbone(
        {each.ref: read_manifest(each.path) for each in stored}, running["backbone"]
    )
    from onetrunk.core.inference.logits import BATCH_TOKENS
    from onetrunk.core.inference.predictor import CHUNK, OneTrunk

    backbone = load_backbone(name, revision, device=running["device"], dtype=running["precision"])
    trunk = OneTrunk(backbone, host=plugin_host(context))
    served = [own.ref if is_location(given) else given for given, own in zip(references, stored, strict=True)]
    for reference in served:
        trunk.load(reference)
    tokens = running["batch_tokens"] or BATCH_TOKENS
    return lambda texts: trunk.predict_stream(texts, served, batch_tokens=tokens, chunk=chunk or CHUNK)
