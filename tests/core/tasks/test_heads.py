from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

from onetrunk.core.tasks import IGNORE, HeadContext, HeadFormat, HeadStyle, Rows
from onetrunk.core.tasks.heads import segment_means, text_head, token_head
from onetrunk.core.tasks.losses import cross_entropy, total_weight

SIZE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": 3,
}
CONTEXT = HeadContext(hidden_size=16, labels=("a", "b", "c"))
STYLES: tuple[HeadStyle, ...] = ("roberta", "electra", "distilbert", "deberta", "plain")
ROBERTA, ELECTRA, DISTILBERT, DEBERTA, PLAIN = (replace(CONTEXT, style=style) for style in STYLES)


def model_of(cls: type[PreTrainedModel], config: type[PreTrainedConfig]) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = cls(config(**SIZE)).eval()
    for parameter in model.parameters():  # transformers starts biases at zero, which would hide one left out
        nn.init.normal_(parameter, std=0.3)
    return model


def head_weights(model: PreTrainedModel, head: nn.Module) -> dict[str, Tensor]:
    """The weights of the model that the head has too, found by the very names PEFT stores them under."""
    return {
        name: next(w for key, w in model.state_dict().items() if f".{key}".endswith(f".{name}"))
        for name in head.state_dict()
    }


def packed(hidden: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    return torch.cat([rows[:length] for rows, length in zip(hidden, lengths, strict=True)]), offsets


@pytest.mark.parametrize(
    ("cls", "config", "context"),
    [
        (BertForSequenceClassification, BertConfig, CONTEXT),
        (RobertaForSequenceClassification, RobertaConfig, ROBERTA),
        (ElectraForSequenceClassification, ElectraConfig, ELECTRA),
        (DistilBertForSequenceClassification, DistilBertConfig, DISTILBERT),
        (DebertaV2ForSequenceClassification, DebertaV2Config, DEBERTA),
    ],
)
def test_a_cls_head_gives_the_logits_of_transformers(
    cls: type[PreTrainedModel], config: type[PreTrainedConfig], context: HeadContext
) -> None:
    model, lengths = model_of(cls, config), [5, 2, 7]
    head = text_head(context).eval()
    head.load_state_dict(head_weights(model, head))
    ids = torch.randint(3, 50, (3, 7))
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        rows, offsets = packed(hidden, lengths)
        ours = head(rows, Rows(offsets, torch.tensor([], dtype=torch.long)))
        theirs = model(input_ids=ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("cls", "config"),
    [
        (BertForTokenClassification, BertConfig),
        (RobertaForTokenClassification, RobertaConfig),
        (ElectraForTokenClassification, ElectraConfig),
        (DistilBertForTokenClassification, DistilBertConfig),
        (DebertaV2ForTokenClassification, DebertaV2Config),
    ],
)
def test_a_token_head_gives_the_logits_of_transformers_at_the_rows_of_the_words(
    cls: type[PreTrainedModel], config: type[PreTrainedConfig]
) -> None:
    model = model_of(cls, config)
    head = token_head(CONTEXT).eval()
    head.load_state_dict(head_weights(model, head))
    ids, words = torch.randint(3, 50, (1, 9)), torch.tensor([1, 2, 5, 5, 7])
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        ours = head(hidden, Rows(torch.tensor([0, 9]), words))
        theirs = model(input_ids=ids).logits[0, words]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_state_keys_are_those_that_peft_stores() -> None:
    assert set(token_head(CONTEXT).state_dict()) == {"classifier.weight", "classifier.bias"}
    assert set(text_head(CONTEXT).state_dict()) == {
        "pooler.dense.weight",
        "pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }
    assert set(text_head(ROBERTA).state_dict()) == {
        "classifier.dense.weight",
        "classifier.dense.bias",
        "classifier.out_proj.weight",
        "classifier.out_proj.bias",
    }
    assert set(text_head(ELECTRA).state_dict()) == set(text_head(ROBERTA).state_dict())
    assert set(text_head(DISTILBERT).state_dict()) == {
        "pre_classifier.weight",
        "pre_classifier.bias",
        "classifier.weight",
        "classifier.bias",
    }


def test_a_plain_head_is_a_linear_on_the_rows_and_says_that_peft_has_no_such_model() -> None:
    hidden, rows = torch.randn(5, 16), Rows(torch.tensor([0, 2, 5]), torch.tensor([1, 3, 4]))
    for make, own in ((token_head, hidden[rows.words]), (text_head, hidden[rows.offsets[:-1]])):
        head = make(PLAIN).eval()
        assert HeadFormat.of(head).task_type is None
        weight, bias = head.state_dict()["classifier.weight"], head.state_dict()["classifier.bias"]
        torch.testing.assert_close(head(hidden, rows), own @ weight.T + bias)
    assert HeadFormat.of(token_head(CONTEXT)).task_type == "TOKEN_CLS"


def test_a_bert_head_starts_from_the_pooler_of_the_backbone() -> None:
    weight, bias = torch.randn(16, 16), torch.randn(16)
    context = HeadContext(hidden_size=16, labels=("a", "b"), pooler=(weight, bias))
    state = text_head(context).state_dict()
    assert torch.equal(state["pooler.dense.weight"], weight)
    assert torch.equal(state["pooler.dense.bias"], bias)


def test_training_a_head_leaves_the_pooler_it_started_from_as_it_was() -> None:
    weight, bias = torch.randn(16, 16), torch.randn(16)
    head = text_head(HeadContext(hidden_size=16, labels=("a", "b"), pooler=(weight.clone(), bias)))
    for parameter in head.parameters():
        parameter.data.add_(1)
    assert not torch.equal(head.state_dict()["pooler.dense.weight"], weight)
    assert head.state_dict()["pooler.dense.weight"].data_ptr() != weight.data_ptr()


def test_the_first_weights_follow_the_seed_and_the_biases_are_zero() -> None:
    torch.manual_seed(7)
    first = token_head(HeadContext(hidden_size=400, labels=tuple("abcdefghij"))).state_dict()
    torch.manual_seed(7)
    again = token_head(HeadContext(hidden_size=400, labels=tuple("abcdefghij"))).state_dict()
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert first["classifier.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert not first["classifier.bias"].any()


@pytest.mark.parametrize("style", get_args(HeadStyle))
def test_a_head_that_is_loaded_next_draws_nothing_and_has_the_same_weights(style: HeadStyle) -> None:
    context = HeadContext(hidden_size=16, labels=("a", "b"), dropout=0.0, style=style)
    fresh = text_head(context)
    before = torch.get_rng_state()
    loaded = text_head(replace(context, fresh=False))
    assert torch.equal(torch.get_rng_state(), before)
    loaded.load_state_dict(fresh.state_dict())
    hidden, rows = torch.randn(5, 16), Rows(torch.tensor([0, 2, 5]), torch.tensor([]))
    torch.testing.assert_close(loaded(hidden, rows), fresh(hidden, rows), rtol=0, atol=0)


MEAN = HeadContext(hidden_size=4, labels=("a", "b"), pooling="mean", dropout=0.0)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 99))
def test_a_mean_head_classifies_the_mean_of_each_texts_rows(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    head = text_head(MEAN).eval()
    texts = [torch.randn(length, 4) for length in lengths]
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    ours = head(torch.cat(texts), Rows(offsets, torch.tensor([], dtype=torch.long)))
    classifier = head.get_submodule("classifier")
    reference = torch.stack([classifier(text.mean(dim=0)) for text in texts])
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-6)


def test_the_gradient_of_segment_means_is_right() -> None:
    hidden = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 3, 4, 7])
    assert torch.autograd.gradcheck(lambda rows: segment_means(rows, offsets), hidden)


def test_segment_means_and_their_gradient_have_the_same_bits_every_time() -> None:
    torch.manual_seed(0)
    lengths = torch.randint(2, 64, (256,))
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    hidden = torch.randn(int(offsets[-1]), 384, requires_grad=True)
    runs = []
    for _ in range(5):
        means = segment_means(hidden, offsets)
        runs.append((means, torch.autograd.grad(means.square().sum(), hidden)[0]))
    assert all(torch.equal(means, runs[0][0]) and torch.equal(grad, runs[0][1]) for means, grad in runs)


def test_a_text_without_rows_has_a_mean_of_zero() -> None:
    means = segment_means(torch.ones(2, 3), torch.tensor([0, 0, 2]))
    assert means.tolist() == [[0.0] * 3, [1.0] * 3]


def test_a_batch_without_words_gives_no_logits() -> None:
    rows = Rows(torch.tensor([0, 2]), torch.tensor([], dtype=torch.long))
    assert token_head(CONTEXT)(torch.randn(2, 16), rows).shape == (0, 3)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_cross_entropy_is_that_of_torch_and_passes_over_ignored_units(weights: Tensor | None) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 3), torch.tensor([0, IGNORE, 2, 1, IGNORE])
    expected = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE)
    assert cross_entropy(logits, targets, weights).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("units", [0, 4])
def test_cross_entropy_without_a_unit_to_learn_from_is_zero_with_zero_gradient(units: int) -> None:
    logits = torch.randn(units, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.full((units,), IGNORE))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_total_weight_counts_the_units_that_have_a_label() -> None:
    targets = torch.tensor([0, IGNORE, 2, -1])
    assert total_weight(targets).item() == 2
    assert total_weight(targets, torch.tensor([1.0, 2.0, 0.5])).item() == 1.5
