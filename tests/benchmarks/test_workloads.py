from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.workloads import (
    KINDS,
    MIXES,
    Texts,
    Workload,
    every,
    make_adapters,
    planned,
    popularity,
    sentences,
)
from onetrunk.core.backbones.backbone import Backbone


@pytest.fixture
def texts(data: Path, bert: Backbone) -> Texts:
    return Texts(data, bert.encoder, longest=128)


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_is_the_same_every_time_and_names_only_adapters_that_are_there(mix: str) -> None:
    slots = popularity(mix, 200, 16)
    assert slots == popularity(mix, 200, 16)
    assert len(slots) == 200
    assert set(slots) <= set(range(16))


def test_each_mix_is_what_its_name_says() -> None:
    assert len(set(popularity("identical", 100, 16))) == 1
    assert Counter(popularity("distinct", 32, 16)) == dict.fromkeys(range(16), 2)
    zipf, uniform = (Counter(popularity(mix, 20_000, 16)) for mix in ("zipf", "uniform"))
    assert zipf[0] / zipf[3] == pytest.approx(4, rel=0.1)
    assert uniform[0] / uniform[3] == pytest.approx(1, rel=0.1)
    with pytest.raises(ValueError, match="mix 'skewed' is unknown; expected identical, uniform, zipf"):
        popularity("skewed", 4, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_the_same_every_time(kind: str, texts: Texts) -> None:
    drawn = texts.draw(kind, 24)
    assert len(drawn) == 24
    assert drawn == texts.draw(kind, 24)
    assert drawn != texts.draw(kind, 24, seed=1)


def test_an_unknown_kind_of_texts_is_refused(texts: Texts) -> None:
    with pytest.raises(ValueError, match="texts 'tweets' are unknown; expected clinc150, wnut17"):
        texts.draw("tweets", 3)


def test_long_documents_are_as_long_as_the_backbone_allows_and_stay_one_window(texts: Texts) -> None:
    batch = texts.batch(Workload(kind="long", texts=6, adapters=3))
    assert batch.lengths == [128] * 6
    assert all(len(text.windows) == 1 for text in batch.encoded)


def test_long_documents_have_300_to_512_tokens_where_they_fit(data: Path, bert: Backbone) -> None:
    encoder = Texts(data, bert.encoder, longest=10_000)
    lengths = [len(bert.encoder.tokenise([text])[0].ids) + 2 for text in encoder.draw("long", 12)]
    assert all(300 <= length <= 512 for length in lengths)
    assert len(set(lengths)) > 6


def test_one_text_in_eight_is_long_in_a_mix_of_all(texts: Texts) -> None:
    lengths = texts.batch(Workload(kind="all", texts=32)).lengths
    assert [i for i, length in enumerate(lengths) if length == 128] == [0, 8, 16, 24]


def test_a_conll_file_is_its_sentences() -> None:
    assert list(sentences("Ada\tB-PER\nwrote\tO\n\n\nLondon\tB-LOC\n")) == ["Ada wrote", "London"]


def test_the_plan_varies_one_axis_at_a_time_and_names_each_workload_once() -> None:
    plan, main = planned(), Workload()
    names = ("kind", "texts", "adapters", "mix")
    assert len({workload.key for workload in plan}) == len(plan)
    assert main in plan
    for workload in (w for w in plan if not w.residents and w.targets == "qv"):
        assert sum(getattr(workload, name) != getattr(main, name) for name in names) <= 1
    assert set(plan) <= set(every())
    assert {w.mix for w in plan} == set(MIXES)
    assert {w.residents for w in plan} == {(), (3, 100, 1000)}


def test_adapters_change_something_and_are_the_same_whatever_their_number(bert: Backbone) -> None:
    few = make_adapters(bert, Workload(adapters=2, targets="all", rank=4))
    many = make_adapters(bert, replace(Workload(adapters=2, targets="all", rank=4), residents=(2, 5)))
    assert (len(few), len(many)) == (2, 5)
    assert len(few[0].updates) == 6 * bert.layers
    for own, same in zip(few[1].parameters, many[1].parameters, strict=True):
        assert torch.equal(own, same)
        assert bool(own.any())
    assert not torch.equal(few[0].parameters[0], few[1].parameters[0])
