"""Backends of `adapters predict`: an encoder in this process, or a running service.

torch is not imported for a service.
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
from onetrunk.cli.backbones import choose_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.quiet import load_backbone
from onetrunk.cli.sharing import read_token, resolve_version

if TYPE_CHECKING:
    from onetrunk.core.tasks.prediction import Prediction

Predict = Callable[[Iterable[str]], Iterator[Sequence["Prediction"]]]
"""Predicts a stream of texts with fixed adapters; a bounded number of texts is in memory."""


@dataclass(frozen=True, slots=True)
class PredictBackend:
    """The choice of a backend.

    url: URL of a service, None for this process.  token: file with its token, - for stdin, None for no token.
    """

    url: str | None
    token: str | None

    def check(self, context: click.Context, running: Iterable[str], *, stdin: bool) -> None:
        """Raise UsageError for options that cannot be combined.

        running: names of the options that configure an encoder in this process. stdin: texts are read from stdin.
        """
        if self.url == "":
            raise click.UsageError("--url is empty; give the URL of a service")
        if self.url is None and self.token is not None:
            raise click.UsageError("--token is only for a service; give --url, too")
        if self.token == "-" and stdin:
            raise click.UsageError(
                "stdin cannot hold both the token and the texts; put one of them into a file"
            )
        default = ParameterSource.DEFAULT
        given = [name for name in running if context.get_parameter_source(name) is not default]
        if self.url is not None and given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise click.UsageError(
                f"{options} cannot be combined with --url; the service decides these settings"
            )


@contextmanager
def open_backend(
    backend: PredictBackend,
    context: click.Context,
    adapters: Sequence[str],
    running: Mapping[str, Any],
    chunk: int | None,
) -> Iterator[Predict]:
    """Yield a function that predicts with `adapters`.

    running: values of `running_options`. chunk: texts read ahead, as in `OneTrunk.predict_stream`; None for the
    default.
    """
    if backend.url is None:
        yield _by_trunk(context, adapters, running, chunk)
        return
    from onetrunk.core.client import Client
    from onetrunk.core.client.requests import CHUNK

    with Client(backend.url, read_token(backend.token)) as client:
        yield lambda texts: client.predict_stream(texts, adapters, chunk=chunk or CHUNK)


def _by_trunk(
    context: click.Context, references: Sequence[str], running: Mapping[str, Any], chunk: int | None
) -> Predict:
    """Load the adapters and their backbone. Raises UsageError if they need different backbones."""
    stored = [resolve_version(lambda: plugin_host(context), each, running["backbone"]) for each in references]
    name, revision = choose_backbone(
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
