"""Calibration: measures the error of a new trunk in bfloat16 or int8, on fixed texts."""

from __future__ import annotations

from torch import Tensor

from onetrunk.adapters.methods.lora import Frozen
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.packing import Packed, pack

TEXTS = (
    "Ada Lovelace wrote to Charles Babbage from London on Tuesday.",
    "Please transfer $250.75 from my savings account to my landlord by Friday, and tell me when it is done.",
    "a gripping, beautifully acted film, although the ending is weak and far too long",
    "how do i change the pin of my card",
    "The European Central Bank raised its key rate by 0.25 percentage points to 4.5% in September 2023.",
    "Mitochondria produce most of a cell's adenosine triphosphate (ATP), a source of chemical energy.",
    "@anna lol that game last nite was insane!!! #finals http://t.co/x1y2z3",
    "def add(a: int, b: int) -> int:\n    return a + b  # the sum",
    "Die Katze schläft heute auf dem Sofa. Où est la gare, s'il vous plaît ?",
    "¿Dónde está mi pedido nº 42? Привет, как дела? مرحبا بالعالم",
    "我想订一张去北京的火车票。 東京 🙂",
    "Mr. O'Neill (aged 47), of 12 High Street, said: \"We'll appeal.\"",
    "not good",
    "",
)
"""Texts of several domains and scripts, code, a short text and an empty one."""


def calibration_batch(backbone: Backbone) -> Packed:
    """Return `TEXTS`, packed for a trunk of `backbone` on its device."""
    encoded = backbone.encoder.encode(list(TEXTS), [()] * len(TEXTS))
    return pack(encoded, [0] * len(TEXTS), device=backbone.device)


def calibrate(trunk: Trunk, texts: Packed, exact: Tensor) -> None:
    """Set `trunk.error` and `trunk.noise`; exact: (tokens, width), the hidden states of `texts` in float32."""
    states = states_of(trunk, texts)
    trunk.error = relative_error(states, exact)
    if not trunk.error:
        return
    noise = trunk.error / 4  # small: the effect of noise is proportional to it
    trunk.noise = noise * trunk.error / relative_error(states_of(trunk.with_noise(noise, 0), texts), states)


def states_of(trunk: Trunk, texts: Packed) -> Tensor:
    """Return the hidden states (tokens, width) of `texts` in packed order, without adapters."""
    return trunk.run(trunk.embed(texts), texts, {})


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the norm of the error of `found` over the norm of `exact`; both have the same shape."""
    exact = exact.double()
    return float((found.double() - exact).norm() / exact.norm())


class InputRecorder:
    """An `Updates` (see `lora_application`) that changes nothing and records the inputs of one layer's products.

    inputs: the input (tokens, d_in) of each product, by the name of its first module.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}

    def product(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:  # noqa: ARG002
        """Return `frozen(x)`, (tokens, d_out), and record x, (tokens, d_in)."""
        self.inputs[modules[0]] = x
        return frozen(x)
