"""The peers on torch: transformers as it is, PEFT's two ways to serve several adapters, and merged models."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.equality import Precision
from benchmarks.variants import Gives, Setup, Skipped, Variant, bare_model, merged_weights
from benchmarks.workloads import Batch
from onetrunk.adapters.format.peft_format import PeftOptions, peft_config
from onetrunk.adapters.methods.lora import Lora
from onetrunk.adapters.methods.target_modules import BERT_LAYOUT
from onetrunk.core.backbones.device import DTYPES
from onetrunk.core.backbones.tokenization import Encoded

WASTE = 0.125
"""A bucket takes longer texts as long as padding stays below this share of it."""
BUCKET_TOKENS = 2048
MERGED_BYTES = 8 << 30
"""Merged models are not measured where they need more memory than this."""


def pad(texts: Sequence[Encoded], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, (texts, longest) int64, padded with zeros."""
    longest = max(text.tokens for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        (window,) = text.windows
        ids[row, : len(window)] = torch.from_numpy(window)
        mask[row, : len(window)] = 1
    return ids.to(device), mask.to(device)


def buckets(lengths: Sequence[int]) -> list[list[int]]:
    """Cut texts in order of length into buckets of little padding and at most `BUCKET_TOKENS` padded tokens."""
    groups: list[list[int]] = []
    tokens = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded = (len(groups[-1]) + 1) * lengths[i] if groups else 0
        if groups and padded * (1 - WASTE) <= tokens + lengths[i] and padded <= BUCKET_TOKENS:
            groups[-1].append(i)
            tokens += lengths[i]
        else:
            groups.append([i])
            tokens = lengths[i]
    return groups


def by_slot(slots: Sequence[int]) -> list[list[int]]:
    """Return the texts of each slot."""
    groups: dict[int, list[int]] = {}
    for i, slot in enumerate(slots):
        groups.setdefault(slot, []).append(i)
    return list(groups.values())


class PaddedVariant(Variant):
    """A model that takes padded rows: groups of texts, one forward a group."""

    def __init__(self, precision: Precision = "fp32", bucketed: bool = False) -> None:
        super().__init__(precision)
        self._bucketed = bucketed

    def prepare(self, setup: Setup) -> None:
        """Load the model."""
        self._setup = setup

    def groups(self, batch: Batch) -> list[list[int]]:
        """Return which texts are padded together."""
        return buckets(batch.lengths) if self._bucketed else [list(range(len(batch.encoded)))]

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor, slots: list[int]) -> Any:
        """Return the hidden states (texts, longest, width) of one group."""

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[tuple[list[int], Any]]:
        """Pad and run each group."""
        results = []
        for group in self.groups(batch):
            ids, mask = pad([batch.encoded[i] for i in group], self._setup.device)
            results.append((group, self.forward(ids, mask, [batch.slots[i] for i in group])))
        return results

    def states(self, output: Any, batch: Batch) -> Tensor:
        """Leave out the padding and put the texts back in order."""
        rows: dict[int, Tensor] = {}
        for group, hidden in output:
            for i, own in zip(group, torch.as_tensor(hidden), strict=True):
                rows[i] = own[: batch.encoded[i].tokens].float()
        return torch.cat([rows[i] for i in range(len(batch.encoded))])


class Transformers(PaddedVariant):
    """The bare model, without any adapter."""

    gives: ClassVar[Gives] = "none"

    def prepare(self, setup: Setup) -> None:
        """Build the model from the backbone's weights."""
        super().prepare(setup)
        self._model = bare_model(setup.backbone, DTYPES[self.precision])

    def forward(self, ids: Tensor, mask: Tensor, slots: list[int]) -> Any:
        """Run the model."""
        return self._model(input_ids=ids, attention_mask=mask).last_hidden_state


class PeftMixed(PaddedVariant):
    """PEFT's mixed batch: `adapter_names` names the adapter of each row."""

    def prepare(self, setup: Setup) -> None:
        """Graft every adapter into one model."""
        super().prepare(setup)
        self._model = peft_model(setup, DTYPES[self.precision])

    def forward(self, ids: Tensor, mask: Tensor, slots: list[int]) -> Any:
        """Run the model with the rows' adapters."""
        names = [f"a{slot}" for slot in slots]
        return self._model(input_ids=ids, attention_mask=mask, adapter_names=names).last_hidden_state


class PeftGroups(PeftMixed):
    """PEFT's `set_adapter`, a group of rows of one adapter at a time."""

    def groups(self, batch: Batch) -> list[list[int]]:
        """Return the texts of each adapter."""
        return by_slot(batch.slots)

    def forward(self, ids: Tensor, mask: Tensor, slots: list[int]) -> Any:
        """Switch the adapter, run the model."""
        self._model.set_adapter(f"a{slots[0]}")
        return self._model(input_ids=ids, attention_mask=mask).last_hidden_state


class Merged(PaddedVariant):
    """A model of its own for each adapter, its updates merged; the embeddings are shared, to save memory."""

    def prepare(self, setup: Setup) -> None:
        """Build the models. Raises Skipped where they would need more than `MERGED_BYTES`."""
        super().prepare(setup)
        plain = bare_model(setup.backbone, DTYPES[self.precision])
        one = sum(p.numel() * p.element_size() for p in plain.encoder.parameters())
        if one * len(setup.adapters) > MERGED_BYTES:
            raise Skipped(f"{len(setup.adapters)} models of {one / 2**20:.0f} MiB each")
        self._models = []
        for lora in setup.adapters:
            model = copy.deepcopy(plain, {id(plain.embeddings): plain.embeddings})
            model.load_state_dict(merged_weights(setup.backbone, lora), strict=False)
            self._models.append(model)

    def groups(self, batch: Batch) -> list[list[int]]:
        """Return the texts of each model."""
        return by_slot(batch.slots)

    def forward(self, ids: Tensor, mask: Tensor, slots: list[int]) -> Any:
        """Run the adapter's model."""
        return self._models[slots[0]](input_ids=ids, attention_mask=mask).last_hidden_state


def peft_model(setup: Setup, dtype: torch.dtype) -> Any:
    """Return a PEFT model with all adapters of `setup`, named a0, a1, …, wholly in `dtype`."""
    from peft import LoraConfig, get_peft_model

    first = next(iter(setup.adapters[0].updates.values()))
    rank = first.a.shape[0]
    config = LoraConfig(
        r=rank, lora_alpha=int(first.scale * rank), target_modules=peft_targets(setup.adapters[0])
    )
    model = get_peft_model(bare_model(setup.backbone, torch.float32), config, adapter_name="a0")
    for slot in range(1, len(setup.adapters)):
        model.add_adapter(f"a{slot}", config)
    for slot, lora in enumerate(setup.adapters):
        fill_peft(model, f"a{slot}", lora)
    return model.to(setup.device, dtype).eval()


def peft_targets(lora: Lora) -> Any:
    """Return PEFT's `target_modules` for the modules that `lora` changes."""
    return peft_config(lora, BERT_LAYOUT, PeftOptions())["target_modules"]


def fill_peft(model: Any, name: str, lora: Lora) -> None:
    """Copy the updates of `lora` into the adapter `name` of a PEFT model around a bare encoder."""
    for (layer, module), update in lora.updates.items():
        grafted = model.base_model.model.get_submodule(BERT_LAYOUT.path(layer, module))
        grafted.lora_A[name].weight.data.copy_(update.a)
        grafted.lora_B[name].weight.data.copy_(update.b)
