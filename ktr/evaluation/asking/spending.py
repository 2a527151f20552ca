"""What asking a served model costs, and where it stops."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from ktr.errors import ConfigError, SpendingLimit
from ktr.evaluation.asking.ask import Answered, Ask

PRICES = Path(__file__).with_name("prices.json")
VERSION = re.compile(r"(-(preview|latest|exp))?(-\d+)*")  # what may follow a model's name without a price of its own
PIXELS_PER_TOKEN = 28 * 28  # of Qwen's families; a provider's picture of a frame's size has about as many tokens
CHARACTERS_PER_TOKEN = 2  # few, so that an estimate is rather too high


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens."""

    input: float
    output: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


def price_of(model: str, prices: str | None = None) -> Price | None:
    """The price of a model by its name, with a date or version behind it or not; None where none is known.

    ``prices`` is a file in the form of ``prices.json``, which is read in its place. Raises ``ConfigError`` where it
    cannot be read.
    """
    name = model.rpartition("/")[2]
    known = _read(PRICES if prices is None else Path(prices).expanduser())
    alike = [known_name for known_name in known if name.startswith(known_name)]
    longest = max(alike, key=len, default=None)
    if longest is None or not VERSION.fullmatch(name.removeprefix(longest)):
        return None
    return known[longest]


def _read(file: Path) -> Mapping[str, Price]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {model: Price(float(price["input"]), float(price["output"])) for model, price in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"endpoint.prices={file}: cannot be read ({type(error).__name__}: {error}); it is a JSON object such as "
            '{"<model>": {"input": <dollars per million tokens>, "output": …}}'
        ) from None


class Spending:
    """The dollars that are spent, and those that asks in flight may cost at most; ``limit`` is on both together.

    Each request pays for its prompt, and has ``n_per_request`` of an ask's completions, or all.
    """

    def __init__(
        self, price: Price | None, limit: float | None, pixels_per_frame: int, n_per_request: int | None = None
    ) -> None:
        self.price, self.limit, self.pixels_per_frame = price, limit, pixels_per_frame
        self.n_per_request = n_per_request
        self.spent = self._dearest = 0.0
        self._in_flight: dict[int, float] = {}

    @property
    def is_at_limit(self) -> bool:
        """Whether no more is to be asked before something in flight has ended, and cost less than it might have."""
        return self.limit is not None and self.spent + sum(self._in_flight.values()) >= self.limit

    def take(self, ask: Ask) -> None:
        """Count an ask as in flight, at what it is thought to cost at most, and no less than the dearest before it."""
        if self.price is None:
            return
        question, sampling = ask.question, ask.sampling
        text = "\n".join((question.problem, *question.options))
        num_frames = sum(ask.num_frames if file.kind == "video" else 1 for file in question.media)
        prompt_tokens = num_frames * self.pixels_per_frame / PIXELS_PER_TOKEN + len(text) / CHARACTERS_PER_TOKEN
        num_requests = ceil(sampling.num_completions / (self.n_per_request or sampling.num_completions))
        at_most = self.price.of(round(num_requests * prompt_tokens), sampling.max_tokens * sampling.num_completions)
        self._in_flight[id(ask)] = max(at_most, self._dearest)

    def end(self, answered: Answered) -> None:
        """An ask has ended: its cost takes the place of the estimate."""
        self._in_flight.pop(id(answered.ask), None)
        cost = answered.cost or 0.0
        self.spent, self._dearest = self.spent + cost, max(self._dearest, cost)

    def stop(self) -> SpendingLimit:
        """The error of a run that is at its limit."""
        assert self.limit is not None, "there is a limit to be at"
        return SpendingLimit(self.spent, self.limit)
