"""A line on how far a batch of rollouts is, once it takes more than a few seconds."""

import sys
import time


class RolloutProgress:
    """Counts a batch's finished requests and sampled tokens; ``seconds`` is its time so far."""

    def __init__(self, engine: str, num_requests: int, seconds_between_lines: float = 5.0):
        self.engine, self.num_requests, self.seconds_between_lines = engine, num_requests, seconds_between_lines
        self.num_done, self.num_tokens = 0, 0
        self._started = self._last_line = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def add(self, num_tokens: int) -> None:
        """One more request is done."""
        self.num_done += 1
        self.num_tokens += num_tokens

    def show(self, num_running: int, num_waiting: int) -> None:
        """Print a line to stderr if the last one is old enough. ``num_waiting`` requests have no room yet."""
        now = time.monotonic()
        if now - self._last_line < self.seconds_between_lines:
            return
        self._last_line = now
        rates = f"{self.num_done / self.seconds:.1f} requests/s · {self.num_tokens / self.seconds:.0f} tokens/s"
        line = f"{self.engine} {self.num_done}/{self.num_requests} requests · {rates}"
        print(f"{line} · {num_running} running · {num_waiting} waiting", file=sys.stderr, flush=True)
