"""The memory that a text of a million characters takes in training and in prediction, with the default backbone."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST_MIB = 1000


def measure(what: str, folder: str) -> int:
    """Return by how many MiB a long text raises the memory of a process that has trained on short texts."""
    import resource
    from pathlib import Path

    from onetrunk.adapters.store.store import Store
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.data.dataset import Dataset, content_sha256
    from onetrunk.core.data.training_data import TrainData
    from onetrunk.core.inference.predictor import OneTrunk
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.training.job import TrainJob
    from onetrunk.core.training.pipeline import train_adapter
    from onetrunk.core.training.settings import TrainSettings

    host, store = PluginHost.discover(), Store(Path(folder))
    backbone, spec = Backbone.load(device="cpu", dtype="fp32"), host.task("sentiment")
    short = [spec.read({"text": f"a {word} day", "label": word}) for word in ("good", "bad")] * 20
    text = ("ada lives in london and reads long books about the sea " * 20_000)[:1_000_000]

    def train(*more: str) -> None:
        rows = (*short, *(spec.read({"text": each, "label": "good"}) for each in more))
        parts = [Dataset(own, "rows", content_sha256(own)) for own in (rows, tuple(short))]
        data = TrainData(parts[0], parts[1], None, ("bad", "good"), held_out=False)
        train_adapter(host, store, TrainJob("sentiment", "mood", data, TrainSettings(epochs=1)), backbone)

    train()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if what == "train":
        train(text)
    else:
        trunk = OneTrunk(backbone, store=store, host=host)
        trunk.load("mood")
        trunk.predict([text], ["mood"])
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
@pytest.mark.parametrize("what", ["train", "predict"])
def test_a_text_of_a_million_characters_takes_less_than_a_gibibyte(tmp_path: Path, what: str) -> None:
    source = f"import sys\n{inspect.getsource(measure)}\nprint(measure(*sys.argv[1:]))"
    line = [sys.executable, "-c", source, what, str(tmp_path)]
    done = subprocess.run(
        line, env=dict(os.environ), capture_output=True, text=True, check=True, timeout=1800
    )
    assert int(done.stdout.splitlines()[-1]) < MOST_MIB
