from __future__ import annotations

from pathlib import Path

from benchmarks.single import SINGLES, Predict, Scores, run_single, train_one
from onetrunk.core.backbones.backbone import Backbone


class Rounded(Predict):
    """A wrong variant: its scores have two digits."""

    ran = 0

    def run(self, text: str) -> Scores:
        self.ran += 1
        return {label: round(score, 2) for label, score in super().run(text).items()}


def test_everyone_gives_the_right_scores_and_who_does_not_is_not_timed(
    data: Path, bert: Backbone, tmp_path: Path
) -> None:
    stored = train_one(bert, data, tmp_path)
    assert stored.labels == ("intent 0", "intent 1", "intent 2")
    wrong = Rounded("fp32")
    singles = {**SINGLES, "wrong": lambda: wrong}
    result = run_single(stored, "was the film good", singles, rounds=2, least=0.01)
    records = result["variants"]
    assert {name: records[name]["status"] for name in SINGLES} == dict.fromkeys(SINGLES, "ok")
    assert all(records[name]["calls"] >= 2 for name in SINGLES)
    assert records["wrong"]["status"] == "failed"
    assert "median" not in records["wrong"]
    assert wrong.ran == 1
