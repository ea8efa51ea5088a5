"""`adapters export`: export an adapter for other tools, and verify the export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.cli.backbones import choose_backbone, load_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import size
from onetrunk.cli.options import backbone_option
from onetrunk.cli.output import emit_json, json_option, note, say, table
from onetrunk.cli.sharing import resolve_version

if TYPE_CHECKING:
    from onetrunk.adapters.card.samples import ExportFormat


@click.command("export")
@click.argument("ref")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["peft", "merged", "onnx"]),
    required=True,
    help="peft: a plain PEFT adapter. merged: a transformers model with the adapter merged in. onnx: an ONNX graph "
    "(extra [onnx]).",
)
@backbone_option()
@json_option
@click.pass_context
def command(
    context: click.Context, ref: str, folder: Path, form: ExportFormat, backbone: str | None, as_json: bool
) -> None:
    """Export the adapter REF to the folder DIR. If DIR exists, it must be empty.

    To verify the export, it is loaded with the tool that will use it, and its logits are compared with those of
    OneTrunk. DIR is written only if the logits are equal up to rounding. A head that transformers does not have,
    such as one with mean pooling, is written to head.safetensors next to the encoder; in ONNX, it is part of the
    graph.

    \b
    Example:
      adapters export ner@prod ner-peft --format peft
      adapters export ner ner-model --format merged
      adapters export sentiment sentiment-onnx --format onnx
    """
    host = plugin_host(context)
    stored = resolve_version(host, ref, backbone)
    manifest = read_manifest(stored.path)
    spec = host.task(manifest.task)
    name, revision = choose_backbone({stored.ref: manifest}, backbone)
    _tell(f"loading {name}")
    from onetrunk.core.interop.export import export_adapter

    loaded = load_backbone(name, revision, device="cpu", dtype="fp32")
    done = export_adapter(stored, spec, loaded, form, folder, _tell)
    if as_json:
        emit_json(
            {
                "adapter": stored.ref,
                "format": form,
                "folder": str(done.folder),
                "files": done.files,
                "texts": done.texts,
                "difference": done.difference,
            }
        )
    else:
        say(
            f"exported {stored.ref} to {done.folder} ({size(sum(done.files.values()))}); "
            f"verified on {done.texts} texts: the logits differ by at most {done.difference:.1e}"
        )
        table(("file", "size"), ((name, size(count)) for name, count in done.files.items()), right=["size"])


def _tell(step: str) -> None:
    note(f"{step} …")
