"""How two trainers in processes of their own take turns: a step when a line comes in, its figures as a line of JSON."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NUM_COMPLETIONS, NUM_PATCHES = 8, 8  # of a question; temporal patches of a video, or pictures in its place
WORDS, VOCABULARY, FIRST_WORD = 12, 768, 6  # of a question; of the model, the first of them special


@dataclass(frozen=True)
class Size:
    """A model, and what a step of it learns from: ``side`` is that of a frame, in patches of 14 pixels."""

    hidden: int
    layers: int
    questions: int
    side: int
    max_tokens: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Size":
        return Size(**json.loads(text))


class Turns:
    """Steps are timed in process time, which other work on the machine moves less than wall time.

    What else the process prints goes to stderr.
    """

    def __init__(self) -> None:
        self._replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._generation = self._start = 0.0

    def begin(self) -> None:
        """Wait for the turn; a process that nobody waits for ends."""
        if not sys.stdin.readline():
            sys.exit()
        self._generation, self._start = 0.0, time.process_time()

    def end(self) -> None:
        (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        figures = {"step": time.process_time() - self._start, "generation": self._generation}
        self._replies.write(json.dumps(figures | {"peak_mib": int(peak.split()[1]) / 1024}) + "\n")
        self._replies.flush()

    def generating(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """``generate``, its time counted apart."""

        def call(*arguments: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return generate(*arguments, **named)
            finally:
                self._generation += time.process_time() - start

        return call
