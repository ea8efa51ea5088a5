"""kill -9 at random moments of training and storing: the store never shows anything partial."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.store import Store

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone

KILLS = 50


def train_forever(train: Callable[..., Any], backbone: Backbone, seed: int) -> None:
    """Train and store, over and over; runs in a child until it is killed."""
    while True:
        train(Store(), "sentiment", backbone, name="doomed", epochs=1, seed=seed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forks, to begin training at once")
def test_a_killed_training_leaves_only_whole_versions(
    train_tiny: Callable[..., Any], bert: Backbone, home: Path
) -> None:
    train_tiny(Store(), "sentiment", bert, name="doomed")  # warm, so that children begin at once
    rng = random.Random(0)
    for kill in range(KILLS):
        child = os.fork()
        if child == 0:
            train_forever(train_tiny, bert, kill)
        time.sleep(rng.uniform(0.0, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for stored in Store().versions():
            assert read_artifact(stored.path).manifest.task == "sentiment"
    listed = json.loads(
        subprocess.check_output([sys.executable, "-m", "onetrunk.cli.main", "list", "--json"], text=True)
    )
    assert len(listed) > 1, "no child lived long enough to store anything"
    assert [row["version"] for row in listed] == sorted({row["version"] for row in listed})
    after = train_tiny(Store(), "sentiment", bert, name="doomed").stored
    assert after.version > listed[-1]["version"]
    assert not list(home.glob(".staging/*")), "what dead processes left was not swept"
