"""What is asked: which texts, how many, of how many adapters, and how popular each adapter is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from onetrunk.adapters.methods.lora import Lora, LowRank, init_lora
from onetrunk.adapters.methods.target_modules import MODULES
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import Encoded, TextEncoder

MIXES = ("identical", "uniform", "zipf", "distinct")
KINDS = ("clinc150", "wnut17", "short", "long", "all")
TARGETS = {"qv": ("query", "value"), "all": MODULES}
LONG = (300, 512)
"""Tokens of a long document, the special ones included; at most as many as the backbone has positions for."""
UPDATE_STD = 0.02
"""Standard deviation of B: updates a twentieth the size of MiniLM's weights."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One question to every variant.

    kind: the texts: `clinc150` (questions), `wnut17` (posts), `short` (both), `long` (documents of `LONG` tokens)
        or `all` (short, one in eight long).
    texts, adapters: how many; mix: popularity of the adapters.
    targets, rank: of the updates.  residents: adapters in memory, if not just those in use.
    """

    kind: str = "short"
    texts: int = 64
    adapters: int = 64
    mix: str = "uniform"
    targets: str = "qv"
    rank: int = 8
    residents: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """A name that is the same in every call."""
        held = f" residents {','.join(map(str, self.residents))}" if self.residents else ""
        asked = f"{self.kind} {self.texts}x{self.adapters} {self.mix}"
        return f"{asked} {self.targets}{self.rank}{held}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts, tokenised, each with its adapter's slot."""

    encoded: tuple[Encoded, ...]
    slots: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return sum(self.lengths)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [text.tokens for text in self.encoded]


def planned() -> list[Workload]:
    """Return the standard plan: one text mix of 64 × 64, and each axis of it varied by itself."""
    main = Workload()
    varied = [
        *(replace(main, mix=mix) for mix in MIXES),
        *(replace(main, adapters=count) for count in (1, 3, 16, 64, 256)),
        *(replace(main, texts=count) for count in (1, 8, 64, 256)),
        *(replace(main, kind=kind) for kind in KINDS),
        replace(main, targets="all", rank=16),
        replace(main, adapters=3, residents=(3, 100, 1000)),
    ]
    return list(dict.fromkeys(varied))


def every() -> list[Workload]:
    """Return the whole product of the axes, and what the standard plan has besides."""
    product = [
        Workload(kind, texts, adapters, mix)
        for kind in KINDS
        for texts in (1, 8, 64, 256)
        for adapters in (1, 3, 16, 64, 256)
        for mix in MIXES
    ]
    return list(dict.fromkeys([*planned(), *product]))


def quick() -> list[Workload]:
    """Return a plan of seconds that shows every path once; its figures mean nothing."""
    return [Workload(texts=8, adapters=3), Workload(texts=8, adapters=3, residents=(3, 10))]


def popularity(mix: str, texts: int, adapters: int, seed: int = 0) -> list[int]:
    """Return the slot of each text.

    identical: all ask one adapter; distinct: each the next; uniform: drawn alike; zipf: the i-th with weight 1 / i.
    Raises ValueError for another mix.
    """
    rng, slots = random.Random(seed), range(adapters)
    if mix == "identical":
        return [adapters - 1] * texts
    if mix == "distinct":
        return [i % adapters for i in range(texts)]
    if mix not in MIXES:
        raise ValueError(f"mix {mix!r} is unknown; expected {', '.join(MIXES)}")
    weights = [1 / (i + 1) if mix == "zipf" else 1.0 for i in slots]
    return rng.choices(slots, weights, k=texts)


class Texts:
    """The texts of the data folder, read once.

    data: a folder with `clinc150/test.jsonl` and `wnut17/test.conll`.
    """

    def __init__(self, data: Path, encoder: TextEncoder, longest: int) -> None:
        self._encoder, self._longest = encoder, longest
        lines = (data / "clinc150" / "test.jsonl").read_text(encoding="utf-8").splitlines()
        self._questions = [str(json.loads(line)["text"]) for line in lines if line]
        self._posts = list(sentences((data / "wnut17" / "test.conll").read_text(encoding="utf-8")))

    def draw(self, kind: str, count: int, seed: int = 0) -> list[str]:
        """Return `count` texts; the same ones for the same arguments. Raises ValueError for an unknown kind."""
        rng = random.Random(f"{kind} {count} {seed}")
        if kind not in KINDS:
            raise ValueError(f"texts {kind!r} are unknown; expected {', '.join(KINDS)}")
        draws: dict[str, Callable[[int], str]] = {
            "clinc150": lambda _: rng.choice(self._questions),
            "wnut17": lambda _: rng.choice(self._posts),
            "short": lambda i: rng.choice(self._posts if i % 2 else self._questions),
            "long": lambda _: self._document(rng),
            "all": lambda i: (
                rng.choice(self._posts if i % 2 else self._questions) if i % 8 else self._document(rng)
            ),
        }
        return [draws[kind](i) for i in range(count)]

    def batch(self, workload: Workload) -> Batch:
        """Return the tokenised texts of `workload` with their slots."""
        texts = self.draw(workload.kind, workload.texts)
        encoded = self._encoder.encode(texts, [()] * len(texts))
        return Batch(tuple(encoded), tuple(popularity(workload.mix, workload.texts, workload.adapters)))

    def _document(self, rng: random.Random) -> str:
        """Return sentences of the posts, cut at a length drawn from `LONG`."""
        most = min(LONG[1], self._longest)
        wanted = rng.randint(min(LONG[0], most), most) - 2
        text = ""
        while True:
            text = f"{text} {rng.choice(self._posts)}".strip()
            (tokens,) = self._encoder.tokenise([text])
            if len(tokens.ids) >= wanted:
                return text[: tokens.offsets[wanted - 1][1]]


def sentences(conll: str) -> Iterator[str]:
    """Yield the words of each sentence of a CoNLL file (word, tab, tag; a blank line between), joined by spaces."""
    for block in conll.split("\n\n"):
        if words := [line.split("\t")[0] for line in block.splitlines() if line.strip()]:
            yield " ".join(words)


def make_adapters(backbone: Backbone, workload: Workload) -> tuple[Lora, ...]:
    """Return random adapters in float32 on the CPU, as many as the workload needs; each the same in every call."""
    count = max((workload.adapters, *workload.residents))
    return tuple(random_lora(backbone, TARGETS[workload.targets], workload.rank, i) for i in range(count))


def random_lora(backbone: Backbone, targets: Iterable[str], rank: int, seed: int) -> Lora:
    """Return an adapter that changes something: B is drawn, too."""
    wanted: Sequence[str] = tuple(targets)
    generator = torch.Generator().manual_seed(seed)
    shapes = {key: shape for key, shape in backbone.linear_shapes.items() if key[1] in wanted}
    fresh = init_lora(shapes, rank, 2.0 * rank, generator)
    return Lora(
        {
            target: LowRank(own.a, UPDATE_STD * torch.randn(own.b.shape, generator=generator), own.scale)
            for target, own in fresh.updates.items()
        }
    )
