from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

# The benchmarks are no part of the package; behind everything else, so that no bare name of ours is found first.
sys.path.append(str(Path(__file__).parents[2]))

WORDS = "the film was very good bad awful and great ada likes paris flight to london".split()  # noqa: SIM905


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in the layout of the real one, with texts that the tiny backbones know the words of."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "clinc150").mkdir()
    (folder / "wnut17").mkdir()
    questions = [WORDS[i % 5 : 3 + i % 5 + i % 7] for i in range(60)]
    for split in ("train", "test"):
        rows = [{"text": " ".join(words), "label": f"intent {i % 3}"} for i, words in enumerate(questions)]
        (folder / "clinc150" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    posts = ["\n".join(f"{word}\tO" for word in WORDS[i % 4 : 7 + i % 9]) for i in range(20)]
    (folder / "wnut17" / "test.conll").write_text("\n\n".join(posts) + "\n")
    return folder
