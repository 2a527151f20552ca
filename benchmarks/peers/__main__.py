"""A step of our Video-KTR beside a step of TRL's plain GRPO, in one run, one thread each.

    make setup-peers                 (once: TRL in .venv-peers)
    python -m benchmarks.peers       (--rounds 3)

Random models, fp32, trained whole: `tiny` of the shipped policy's size, 16 questions with 32 visual tokens, 64 tokens
an answer; `wide` of 8 layers of 512, 8 query and 2 key-value heads, one question with 1,152 visual tokens, 128 tokens
an answer. 8 completions of a question, all equally long, and all learned from. TRL gets the temporal patches of a video
as that many pictures (`trl_grpo.py`). The two take turns; figures are medians of process time over the rounds behind
the first, with the lowest and highest, and the peak memory of each process. The last line is JSON with the ratios
TRL / ours. Takes about eight minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.peers.turns import Size
from benchmarks.small_model import write_model_folder

ROOT = Path(__file__).parents[2]
SIZES = {
    "tiny": Size(hidden=128, layers=3, questions=16, side=4, max_tokens=64),
    "wide": Size(hidden=512, layers=8, questions=1, side=24, max_tokens=128),
}
FIGURES = ("step", "without_generation", "peak_mib")
Steps = dict[str, list[float]]  # by figure, one of each round


class Trainer:
    """One trainer in a process of its own, which takes a step when asked."""

    def __init__(self, name: str, command: Sequence[str], cwd: Path, log: IO[str], stack: ExitStack) -> None:
        self.name, self.steps = name, {figure: list[float]() for figure in FIGURES}
        self._log = log
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        process = subprocess.Popen(command, cwd=cwd, env=environment, text=True, **pipes)
        stack.callback(process.kill)
        assert process.stdin is not None and process.stdout is not None
        self._asks, self._replies = process.stdin, process.stdout

    def step(self) -> float:
        """Take a step and give its seconds. Raises RuntimeError with the last lines of a process that ended."""
        try:
            self._asks.write("\n")
            self._asks.flush()
        except BrokenPipeError:
            pass  # the missing reply says it
        # What libraries print while they are imported is no reply.
        if (reply := next((line for line in self._replies if line.startswith("{")), None)) is None:
            self._log.seek(0)
            raise RuntimeError(f"{self.name} ended:\n{self._log.read()[-4000:]}")
        found = json.loads(reply)
        found["without_generation"] = found["step"] - found["generation"]
        for figure in FIGURES:
            self.steps[figure].append(found[figure])
        return found["step"]


def measure(size: Size, rounds: int, console: Console, name: str) -> dict[str, Steps]:
    """The steps of both trainers behind the first, which pays for what is set up once."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        write_model_folder(Path(folder), size.hidden, size.layers)
        given = [folder, size.to_json()]
        trl, ours = [ROOT / ".venv-peers/bin/python", "-m", "peers.trl_grpo"], [sys.executable, "-m"]
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        trainers = [
            Trainer("TRL's GRPO", [*map(str, trl), *given], ROOT / "benchmarks", log, stack),
            Trainer("our Video-KTR", [*ours, "benchmarks.peers.video_ktr", *given], ROOT, log, stack),
        ]
        for number in range(rounds + 1):
            told = ", ".join(f"{trainer.name} {trainer.step():.2f} s" for trainer in trainers)
            console.print(f"{name}, {f'round {number} of {rounds}' if number else 'set up'}: {told}", highlight=False)
        return {t.name: {figure: values[1:] for figure, values in t.steps.items()} for t in trainers}


def table(name: str, steps: Mapping[str, Steps]) -> Table:
    result = Table(title=f"{name}: CPU seconds, and MiB", title_justify="left")
    for column in ("", "whole step", "without generation", "peak memory"):
        result.add_column(column, justify="right" if column else "left")
    for trainer, figures in steps.items():
        cells = [f"{statistics.median(v):.2f} ({min(v):.2f}–{max(v):.2f})" for v in map(figures.get, FIGURES[:2]) if v]
        result.add_row(trainer, *cells, f"{max(figures['peak_mib']):.0f}")
    return result


def ratios(steps: Mapping[str, Steps]) -> dict[str, float]:
    theirs, ours = steps.values()
    return {f: round(statistics.median(theirs[f]) / statistics.median(ours[f]), 2) for f in FIGURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if not (ROOT / ".venv-peers/bin/python").exists():
        sys.exit("benchmarks.peers: TRL is not installed here: make setup-peers")
    disable_progress_bar()
    console, found = Console(width=120), {}
    for name, size in SIZES.items():
        steps = measure(size, rounds, console, name)
        console.print(table(name, steps))
        found[name] = ratios(steps)
    print(json.dumps({"trl_grpo_over_video_ktr": found["wide"]["step"], **found}))


if __name__ == "__main__":
    main()
