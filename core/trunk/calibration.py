"""How far a trunk in a lower precision is from the exact one, measured on fixed texts when it is built."""

from __future__ import annotations

from torch import Tensor

from onetrunk.adapters.methods.lora import Frozen
from onetrunk.core.backbones.backbone import Backbone
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
"""Texts of many kinds: several domains and scripts, code, a short one and an empty one."""


def calibration_batch(backbone: Backbone) -> Packed:
    """Return `TEXTS`, packed for a trunk of `backbone` on its device."""
    encoded = backbone.encoder.encode(list(TEXTS), [()] * len(TEXTS))
    return pack(encoded, [0] * len(TEXTS), backbone.first_position).to(backbone.device)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the norm of the error of `found` as a share of the norm of `exact`."""
    exact = exact.double()
    return float((found.double() - exact).norm() / exact.norm())


class InputRecorder:
    """Updates that change nothing, and keep what enters each product of one layer."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}
        """The input (tokens, d_in) of each product, by the first of its modules."""

    def product(self, x: Tensor, frozen: Frozen, layer: int, modules: tuple[str, ...], width: int) -> Tensor:  # noqa: ARG002
        """Return `frozen(x)`, and keep x (tokens, d_in)."""
        self.inputs[modules[0]] = x
        return frozen(x)
