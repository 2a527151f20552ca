"""What the plan takes beside the overrides of ``ktr.train``: the card, and what it assumes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ktr.config.keys import nearest
from ktr.errors import ConfigError

_CARDS = Path(__file__).with_name("cards.json")


@dataclass(frozen=True)
class Options:
    """``completion_tokens``: half of the longest. ``text_tokens``: by the length of the instruction. ``share`` and
    ``bandwidth_share`` are those of the card's peak that a pass reaches, ``network_gb_s`` is between machines of eight
    GPUs, ``host_ms_per_layer`` the least time of a decoder layer in the transformers engine, ``reserve_gib`` what CUDA
    and the allocator keep. ``output`` is a file for the JSON."""

    card: str = "h100"
    share: float = 0.4
    bandwidth_share: float = 0.6
    completion_tokens: int | None = None
    text_tokens: int | None = None
    network_gb_s: float = 50.0
    host_ms_per_layer: float = 0.5
    reserve_gib: float = 2.0
    output: str | None = None


@dataclass(frozen=True)
class Card:
    """A GPU: memory that its driver shows, dense tensor-core and plain fp32 peaks, memory and link speed (one way)."""

    name: str
    memory_gib: float
    bf16_tflops: float
    fp32_tflops: float
    hbm_gb_s: float
    link_gb_s: float


def read_options(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """The plan's own options of a command line, and what is left for ``ktr.train``. Raises ConfigError."""
    kinds = {field.name: field.type for field in fields(Options)}
    given: dict[str, Any] = {}
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in kinds:
            rest.append(argument)
            continue
        kind = str if key in ("card", "output") else float if kinds[key] is float else int
        try:
            given[key] = kind(value)
        except ValueError as error:
            raise ConfigError(f"{argument}: give a number, as {key}={getattr(Options, key) or 8}") from error
        if kind is not str and given[key] <= 0:
            raise ConfigError(f"{argument}: give a number above 0")
    return Options(**given), rest


def read_card(name: str) -> Card:
    """A card by its name in cards.json. Raises ConfigError where it has none of that name."""
    cards = json.loads(_CARDS.read_text(encoding="utf-8"))["cards"]
    if name not in cards:
        close = nearest(name, list(cards))
        hint = f"did you mean {close}?" if close else f"choose one of {', '.join(cards)}"
        raise ConfigError(f"card={name}: no such card is known; {hint}")
    return Card(**cards[name])
