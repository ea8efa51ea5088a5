"""`adapters serve`: serve adapters of many tasks over HTTP from one encoder."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.errors import first_few
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.remotes.locations import Location, is_location
from onetrunk.adapters.store.store import Store
from onetrunk.cli.backbones import choose_backbone, load_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted
from onetrunk.cli.options import backbone_option
from onetrunk.cli.output import say
from onetrunk.cli.sharing import resolve_version
from onetrunk.cli.threads import threads_option, use_threads
from onetrunk.core.errors import ArtifactError, OneTrunkError, StoreError, UsageError
from onetrunk.core.serving.engine.config import ServeConfig, check_name

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.inference.predictor import OneTrunk
    from onetrunk.core.inference.registry import ServedName
    from onetrunk.core.serving.engine.engine import Engine

_NEEDED = ("starlette", "uvicorn", "httptools", "prometheus_client")
"""Packages of the extra [serve]."""
_SHOWN = 20
"""Maximum number of served names that are printed."""


@click.command("serve")
@click.argument("refs", metavar="[[NAME=]REF...]", nargs=-1)
@click.option("--host", metavar="H", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one.  [default: 8000]")
@backbone_option("the backbone of the adapters")
@click.option("--device", metavar="D", help="Device: auto, cpu, cuda or cuda:N.  [default: auto]")
@threads_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "int8"]),
    help="Precision of the frozen encoder.  [default: auto]",
)
@click.option(
    "--max-batch-tokens",
    type=click.IntRange(min=1),
    help="Maximum number of tokens in a batch.  [default: 256 on a CPU, 16384 on a GPU]",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(min=0),
    help="Milliseconds that an idle device waits for a batch to fill.  [default: 1]",
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=1),
    help="Maximum number of tokens in the queue.  [default: 65536 on a CPU, 1048576 on a GPU]",
)
@click.option(
    "--token-file",
    metavar="F",
    help="TOML file with bearer tokens and their scopes. Without it, only clients on this machine can connect.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    metavar="O",
    multiple=True,
    help="Origin of web pages that may call the service from a browser, such as https://example.org; repeatable.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="F",
    help="TOML file with these options and further limits. Options on the command line override the file.",
)
@click.pass_context
def command(
    context: click.Context, /, refs: tuple[str, ...], config_file: Path | None, **options: Any
) -> None:
    """Serve adapters over HTTP. In a browser, / is a page to try the service, /docs is the API documentation.

    REF is an adapter in the store, a Hub repo or file:///FOLDER. It is served under the name NAME. The default of
    NAME is REF; for a Hub repo or folder, it is the name of the repo or folder.

    Without REF, the current version of every adapter in the store is served. Adapters that were trained on another
    backbone are left out; if the store has adapters for several backbones, give --backbone (its default is then
    that of `adapters train`). Adapters that were only used by their location, without `adapters pull`, are also
    left out.

    The service answers requests while it loads adapters; /readyz says when all are loaded. It keeps 512 adapters
    loaded (`loaded` under [limits] of --config), and loads the others when they are used.

    The log goes to stderr, as JSON lines.

    \b
    Example:
      adapters serve
      adapters serve ner@prod mood=sentiment@3 --port 8080
      adapters serve --host 0.0.0.0 --token-file tokens.toml
      curl localhost:8000/v1/predict -H 'Content-Type: application/json' \\
        -d '{"inputs": [{"text": "Ada Lovelace loved London.", "adapters": ["ner"]}]}'
    """
    threads = options.pop("threads")
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UsageError(f"missing packages: {', '.join(missing)}; pip install 'onetrunk[serve]'")
    options["cors_origins"] = options["cors_origins"] or None
    config = (ServeConfig() if config_file is None else ServeConfig.read(config_file)).chosen(**options)
    if refs:
        config = replace(config, adapters=_named(refs))
    _serve(context, config, threads)


def _named(refs: Sequence[str]) -> dict[str, str]:
    """Return the references by served name. Raises UsageError, and ReferenceSyntaxError for a wrong location."""
    adapters: dict[str, str] = {}
    for given in refs:
        name, equals, reference = given.partition("=")
        if not equals or "/" in name:
            name, reference = (Location.parse(given).name if is_location(given) else given), given
        if not reference:
            raise click.UsageError(f"{given!r} has no adapter after the =; expected NAME=REF")
        name = check_name(name)
        if name in adapters:
            raise click.UsageError(f"two adapters have the served name {name!r}; rename one with NAME=REF")
        adapters[name] = reference
    return adapters


def _serve(context: click.Context, config: ServeConfig, threads: int | None) -> None:
    from onetrunk.cli.allocator import share_one_heap
    from onetrunk.core.serving.http.auth import Access
    from onetrunk.core.serving.http.cors import check_origins
    from onetrunk.core.serving.http.json_log import EventLog
    from onetrunk.core.serving.http.sockets import listen, raise_open_file_limit, url_of

    signal.signal(signal.SIGTERM, _end)
    share_one_heap()
    log = EventLog()
    log.capture_logging()
    access = Access() if config.token_file is None else Access.read(Path(config.token_file))
    check_origins(config.cors_origins, has_tokens=not access.is_open)
    raise_open_file_limit()
    # The port is opened before the adapters are loaded, so that a port in use fails early.
    sockets = listen(config.host, config.port, loopback_only=access.is_open)

    import torch

    from onetrunk.core.serving.engine.cpu_threads import run_in_thread, share_threads

    trunk, adapters = run_in_thread(_chosen, context, config)
    for each in use_threads(threads, trunk.backbone, measure=False):
        say(str(each))

    from onetrunk.core.serving.engine.engine import Engine
    from onetrunk.core.serving.http.app import App
    from onetrunk.core.serving.http.prometheus import Metrics
    from onetrunk.core.serving.http.server import Server

    limits = config.limits_on(trunk.backbone.device.type, torch.get_num_threads())
    engine = Engine(trunk, limits, Metrics())
    try:
        share_threads(limits.workers)
        url = url_of(config.host, sockets)
        if adapters:
            say(f"listening at {url}, loading {counted(len(adapters), 'adapter')}")
        app = App(engine, access=access, log=log)
        warm_up = _WarmUp(engine, adapters, url, skip=config.adapters is None)
        Server(app, warm_up.run, origins=config.cors_origins).run(sockets)
    finally:
        ended = engine.close()
    if not ended:  # a download would keep the process alive until it ends
        log.flush()
        os._exit(0)


def _end(_signal: int, _frame: FrameType | None) -> None:
    """End the process with code 0 on SIGTERM before it serves; uvicorn replaces this handler."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


class _WarmUp:
    """Loads the adapters to serve, while the service answers requests.

    url: where it is served.
    skip: if loading an adapter fails, print the error instead of raising it.
    """

    def __init__(self, engine: Engine, adapters: Mapping[str, str], url: str, *, skip: bool) -> None:
        self._engine, self._adapters, self._url, self._skip = engine, adapters, url, skip

    async def run(self) -> None:
        """Load the adapters, and print what is served. Raises the error of an adapter."""
        from onetrunk.cli.allocator import give_back_freed

        await self._engine.warm_up(self._adapters, self._loaded)
        give_back_freed()
        gc.collect()
        gc.freeze()  # these objects stay for ever; to scan them would take each garbage collection 0.1 s
        say(_ready(self._url, self._engine))

    def _loaded(self, name: str, result: ServedName | OneTrunkError) -> None:
        if not isinstance(result, OneTrunkError):
            version = result.version
            say(f"loaded {version}" + (f" as {name}" if name != version else ""))
        elif self._skip:
            say(f"not served: {name}: {result}")
        else:
            raise result


def _chosen(context: click.Context, config: ServeConfig) -> tuple[OneTrunk, dict[str, str]]:
    """Load the backbone. Return it with the references of the adapters to serve, by served name."""
    from onetrunk.core.backbones.device import name_of
    from onetrunk.core.inference.predictor import OneTrunk
    from onetrunk.core.sharing.pull import Puller

    store, host, choice = Store(), plugin_host(context), config.backbone
    if config.adapters is None:
        manifests = _current(store)
        needed = {(own.backbone.fingerprint, own.backbone.tokenizer) for own in manifests.values()}
        name, revision = choose_backbone(manifests if len(needed) == 1 else {}, choice)
    else:
        found = {each: resolve_version(host, each, choice) for each in config.adapters.values()}
        manifests = {reference: read_manifest(stored.path) for reference, stored in found.items()}
        name, revision = choose_backbone(manifests, choice)
    say(f"loading {name}")
    backbone = load_backbone(name, revision, device=config.device, dtype=config.precision)
    say(f"loaded {backbone.public_name} on {backbone.device} in {name_of(backbone.dtype)}")
    trunk = OneTrunk(
        backbone, store=store, host=host, resolve=Puller(store, host, lambda _: backbone).resolve
    )
    if config.adapters is None:
        return trunk, {name: name for name in _fitting(manifests, backbone)}
    return trunk, dict(config.adapters)


def _current(store: Store) -> dict[str, Manifest]:
    """Return the manifest of the current version of each name. Print a line for each name that is skipped."""
    manifests = {}
    for name in store.names():
        try:
            if not store.versions(name):
                continue
            stored = store.resolve(name)
            if stored.is_cached:
                place = stored.origin
                say(f"not served: {name}: it was only used by its location {place}; to serve it, give {name}")
            else:
                manifests[name] = read_manifest(stored.path)
        except (StoreError, ArtifactError) as error:
            say(f"not served: {error}")
    return manifests


def _fitting(manifests: Mapping[str, Manifest], backbone: Backbone) -> list[str]:
    """Return the names of the adapters that were trained on `backbone`. Print a line for each other adapter."""
    names = []
    for name, manifest in manifests.items():
        own = manifest.backbone
        if (own.fingerprint, own.tokenizer) == (backbone.fingerprint, backbone.tokenizer_fingerprint):
            names.append(name)
        else:
            say(f"not served: {name}: it needs the backbone {own.name}")
    return names


def _ready(url: str, engine: Engine) -> str:
    names = sorted(engine.names())
    if not names:
        return (
            f"serving at {url}, no adapters loaded; train or pull one, then load it: "
            f"curl -X PUT {url}/v1/adapters/NAME -H 'Content-Type: application/json' -d '{{\"ref\": \"NAME\"}}'"
        )
    later = engine.status().pending
    noted = f" ({later} are loaded at their first use)" if later else ""
    return f"serving at {url}, {counted(len(names), 'adapter')}{noted}: {first_few(names, _SHOWN)}"
