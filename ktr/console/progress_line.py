"""A line that counts towards a total: a live bar on a terminal, a plain line now and then elsewhere."""

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

T = TypeVar("T")
WIDTH = 100


def terminal() -> Console:
    """Where progress is shown: stderr, at most ``WIDTH`` columns wide."""
    console = Console(stderr=True)
    return Console(stderr=True, width=min(console.width, WIDTH))


class ProgressLine:
    """A count towards ``total`` with rates, time left and a few values.

    On a terminal it is a bar that is redrawn in place; elsewhere a line every ``seconds_between_lines``. Both end with
    one last line. Use it as a context, or through ``track``. ``done`` is where a resumed count starts. A count inside
    another one's is not ``live``: it leaves the bar and the last line to that one, and needs no context.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        done: int = 0,
        console: Console | None = None,
        seconds_between_lines: float = 20.0,
        live: bool = True,
    ) -> None:
        self.label, self.total, self.done = label, total, done
        self.console = console or terminal()
        self._redrawn = live and self.console.is_terminal
        self.seconds_between_lines = seconds_between_lines
        self.detail = ""
        self._done_before = done
        self._counts = {"q": 0, "tok": 0}
        self._seconds_counted = 0.0
        self._started = self._last_line = perf_counter()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=12), TextColumn("{task.fields[status]}"))
        self._bar = Progress(*columns, console=self.console, transient=True, refresh_per_second=4)
        self._task = self._bar.add_task(label, total=total, completed=done, status=self.status())

    @property
    def num_tokens(self) -> int:
        return self._counts["tok"]

    @property
    def seconds(self) -> float:
        """Since the count began."""
        return perf_counter() - self._started

    def __enter__(self) -> "ProgressLine":
        self.resume()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.pause()
        self._print_line()

    def resume(self) -> None:
        if self._redrawn:
            self._bar.start()

    def pause(self) -> None:
        """Leave the terminal to another line until ``resume``."""
        if self._redrawn:
            self._bar.stop()

    def advance(
        self, steps: int = 1, questions: int = 0, tokens: int = 0, seconds: float = 0.0, detail: str = ""
    ) -> None:
        """Count ``steps`` more; ``questions`` and ``tokens`` were worked on in the last ``seconds``."""
        self.done += steps
        self._counts["q"] += questions
        self._counts["tok"] += tokens
        self._seconds_counted += seconds
        self.detail = detail
        if self._redrawn:
            self._bar.update(self._task, completed=self.done, status=self.status())
        elif perf_counter() - self._last_line >= self.seconds_between_lines:
            self._print_line()

    def status(self) -> str:
        """Such as ``12/110 · 6.1 q/s · 1.9k tok/s · 1:32 left · reward 1.42``."""
        elapsed, steps = self.seconds, self.done - self._done_before
        parts = [f"{self.done}/{self.total}" if self.total else str(self.done)]
        seconds = self._seconds_counted or elapsed
        parts += [f"{_short(count / seconds)} {unit}/s" for unit, count in self._counts.items() if count]
        if self.total and steps and self.done < self.total:
            parts.append(f"{_clock(elapsed / steps * (self.total - self.done))} left")
        elif steps:
            parts.append(_clock(elapsed))
        return " · ".join([*parts, self.detail] if self.detail else parts)

    def _print_line(self) -> None:
        self._last_line = perf_counter()
        line = f"{self.label} {self.status()}"[:WIDTH]
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def track(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    """``items`` unchanged, with a progress line that counts them."""
    with ProgressLine(label, total) as line:
        for item in items:
            yield item
            line.advance()


def _short(rate: float) -> str:
    return f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
