"""Turns of requests: evenly spread, as many a minute as a provider allows."""

import asyncio
from collections.abc import Callable
from time import monotonic


class Pace:
    """``per_minute`` turns a minute, one after the other; None does not hold anything up."""

    def __init__(self, per_minute: float | None, now: Callable[[], float] = monotonic) -> None:
        self.gap = 0.0 if per_minute is None else 60.0 / per_minute
        self._now, self._next = now, now()

    def wait(self) -> float:
        """Take a turn; the seconds until it."""
        now = self._now()
        turn = max(self._next, now)
        self._next = turn + self.gap
        return turn - now

    async def turn(self) -> None:
        """Wait for a turn."""
        await asyncio.sleep(self.wait())
