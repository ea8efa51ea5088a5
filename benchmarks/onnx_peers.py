"""ONNX Runtime on one merged model: the strongest peer on a CPU, where one adapter is all there is."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.peers import PaddedVariant
from benchmarks.variants import Gives, Setup, Skipped, bare_model, merged_weights
from onetrunk.core.backbones.kernels import has_vnni

REQUIRED = ("onnx", "onnxruntime", "onnxscript")


class Onnx(PaddedVariant):
    """The first adapter, merged and exported, fp32 or quantised by ONNX Runtime's dynamic int8."""

    gives: ClassVar[Gives] = "one"

    def prepare(self, setup: Setup) -> None:
        """Export the model, unless an earlier workload did. Raises Skipped on a GPU and without ONNX Runtime."""
        super().prepare(setup)
        if setup.device.type != "cpu":
            raise Skipped("measured on the CPU only")
        if missing := [name for name in REQUIRED if find_spec(name) is None]:
            raise Skipped(f"{', '.join(missing)} not installed; the extra [bench] has them")
        file = exported(setup)
        self._session = session(quantised(file) if self.precision == "int8" else file)

    def forward(self, ids: Tensor, mask: Tensor, slots: list[int]) -> Any:
        """Run the session; the result is a numpy array."""
        return self._session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]


class _Plain(nn.Module):
    """The model with tensors alone for arguments and result, as an export wants it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def exported(setup: Setup) -> Path:
    """Return the ONNX file of the first adapter's merged model, made on the first call."""
    file = setup.scratch / f"{setup.name}.onnx"
    if file.exists():
        return file
    # Eager attention becomes fewer operators than SDPA, whose mask handling stays in the graph.
    weights = merged_weights(setup.backbone, setup.adapters[0])
    model = _Plain(bare_model(setup.backbone, torch.float32, weights, attention="eager")).eval()
    ids = torch.full((3, 7), 5)
    longest = int(setup.backbone.config.max_position_embeddings) - setup.backbone.first_position
    axes = {0: torch.export.Dim("texts", max=4096), 1: torch.export.Dim("length", min=2, max=longest)}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about versions of the exporter's own parts
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids)),
            file,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["input_ids", "attention_mask"],
            output_names=["hidden"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        )
    return file


def quantised(file: Path) -> Path:
    """Return the int8 form of `file`: weights by channel, activations as they come, matrix products only.

    Without VNNI the 8-bit products of x86 saturate, so that weights keep to 7 bits there, as ONNX Runtime advises.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = file.with_suffix(".int8.onnx")
    if not target.exists():
        quantize_dynamic(
            file,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=not has_vnni(),
        )
    return target


def session(file: Path) -> Any:
    """Return a session with torch's number of threads, every optimisation, and threads that rest between calls."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
