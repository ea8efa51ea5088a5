from __future__ import annotations

import pytest

from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.training.encoded_dataset import EncodedDataset, encode_dataset


@pytest.fixture(scope="module")
def spec() -> TaskSpec:
    return PluginHost.discover().task("sentiment")


@pytest.fixture
def dataset(spec: TaskSpec, bert: Backbone, records: dict[str, list[Record]]) -> EncodedDataset:
    return encode_dataset(spec, bert, [spec.read(record) for record in records["sentiment"]], ("neg", "pos"))
