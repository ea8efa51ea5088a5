"""Which backbone `eval` and `predict` load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.cli.backbones import choose_backbone
from onetrunk.core.errors import UsageError


def test_a_chosen_backbone_is_taken_whatever_the_adapters_need(stocked: Path) -> None:
    manifest = read_manifest(Store().resolve("mood").path)
    assert choose_backbone({"mood@2": manifest}, "some/where") == ("some/where", None)


def test_a_backbone_of_the_hub_is_loaded_at_its_revision(stocked: Path) -> None:
    manifest = read_manifest(Store().resolve("mood").path)
    hub = replace(manifest, backbone=replace(manifest.backbone, name="org/model", revision="abc"))
    assert choose_backbone({"mood@2": hub}, None) == ("org/model", "abc")


@pytest.mark.parametrize("found", [(), ("tiny",)])
def test_a_local_backbone_must_be_given_and_is_never_looked_for_by_its_bare_name(
    stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...]
) -> None:
    for name in found:
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(Store().resolve("mood").path)
    with pytest.raises(UsageError, match=r"mood@2 was trained on the local folder 'tiny'.*--backbone PATH"):
        choose_backbone({"mood@2": manifest}, None)
