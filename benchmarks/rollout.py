"""Rollout engines on one workload in one run: how fast, where the time goes, what sharing and overlap bring.

    python -m benchmarks.rollout            (--quick: fewer questions, rounds and steps)

Questions of the embedded world, the shipped policy, answers of at most 64 tokens at temperature 1, for G = 1, 8 and 16
completions a question. Engines are built through the config tree, live side by side and take turns in each round;
figures are medians over rounds, ratios are taken within a round. Before every timed call the weights are pushed (not
timed), as training does it, so that no cache holds anything of an earlier call.

- tokens/s: all questions at once.
- a group: one question alone, all its G completions.
- prefill: time of the same call cut at one token, as a share of the full one. It holds encoding and prefill of each
  question and one sampling step.
- sharing: time of G requests of one completion each, every one with a video of its own (pixels 1e-5 apart, so that no
  cache can tell them to be one), over that of one request of G: same batch, same amount of text, nothing shared.
- cached: share of the prompt tokens of all completions that came out of vLLM's prefix cache; in brackets, unshared.
  Counted in this process, hence of the colocated engine only.
- overlap: seconds of a training step with two servers, generating the next batch during the update and not.

An engine that cannot run here is named and left out. Writes rollout.json and rollout.md; the path is printed last.
"""

import argparse
import csv
import itertools
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ktr.policy  # noqa: F401  # isort: skip  (before lightning, see ktr.policy.torchvision_ops)
import torch
from hydra.utils import instantiate
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from benchmarks.rollout_table import markdown, overlap_sentence, table
from ktr.config.composing import compose
from ktr.errors import MissingExtra
from ktr.policy.family import Policy
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.vllm.setup import require_vllm
from ktr.training.run import load_policy
from ktr.types import PromptInputs

ENGINES = {
    "transformers": ["rollout=transformers"],
    "vllm_colocate": ["rollout=vllm_colocate"],
    "vllm_server": ["rollout=vllm_server", "rollout.num_servers=2"],
}
GROUP_SIZES = (1, 8, 16)
MAX_TOKENS = 64


@dataclass(frozen=True)
class Size:
    """Questions at once and alone, rounds, and steps of each training, of which there are ``trainings`` each way."""

    questions: int = 8
    alone: int = 3
    rounds: int = 3
    steps: int = 10
    trainings: int = 2


FULL, QUICK = Size(), Size(questions=4, alone=1, rounds=1, steps=5, trainings=1)


@dataclass
class Measured:
    """One engine, and its figures of each round by number of completions."""

    name: str
    engine: RolloutEngine
    policy: Policy
    rounds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=itertools.count)

    def generate(
        self, prompts: Sequence[PromptInputs], num_completions: int, max_tokens: int = MAX_TOKENS
    ) -> tuple[float, int]:
        """Seconds and sampled tokens of one call on empty caches."""
        self.engine.load_weights(self.policy.named_weights(), version=next(self.versions))
        sampling = SamplingParams(num_completions, max_tokens)
        start = time.perf_counter()
        groups = self.engine.generate(prompts, sampling, seeds=range(len(prompts)))
        seconds = time.perf_counter() - start
        return seconds, sum(len(c.token_ids_T) for group in groups for c in group.completions)

    def run_round(self, prompts: Sequence[PromptInputs], num_completions: int, alone: int) -> None:
        with self._prefix_cache() as shared:
            seconds, tokens = self.generate(prompts, num_completions)
        figures = {
            "tokens_per_second": tokens / seconds,
            "group_seconds": statistics.median(self.generate([p], num_completions)[0] for p in prompts[:alone]),
            "prefill_share": self.generate(prompts, num_completions, max_tokens=1)[0] / seconds,
        }
        if num_completions > 1:
            with self._prefix_cache() as unshared:
                figures["sharing"] = self.generate(apart(prompts, num_completions), 1)[0] / seconds
            if shared["prompt"]:
                figures["cached"] = shared["cached"] / shared["prompt"]
                figures["cached_unshared"] = unshared["cached"] / unshared["prompt"]
        self.rounds.setdefault(num_completions, []).append(figures)

    def medians(self, num_completions: int) -> dict[str, float]:
        rounds = self.rounds[num_completions]
        return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}

    @contextmanager
    def _prefix_cache(self) -> Iterator[dict[str, int]]:
        """Prompt tokens of what the colocated engine prefills meanwhile, and how many of them were cached."""
        counts = {"prompt": 0, "cached": 0}
        if self.name != "vllm_colocate":
            yield counts
            return
        core = self.engine._engine.engine_core  # type: ignore[attr-defined]
        get_output = core.get_output

        def counted() -> Any:
            outputs = get_output()
            for stats in (output.prefill_stats for output in outputs.outputs):
                if stats is not None:
                    counts["prompt"] += stats.num_prompt_tokens
                    counts["cached"] += stats.num_cached_tokens
            return outputs

        core.get_output = counted
        try:
            yield counts
        finally:
            core.get_output = get_output


def apart(prompts: Sequence[PromptInputs], copies: int) -> list[PromptInputs]:
    """``copies`` of each prompt that no cache can take for one another."""
    return [replace(p, pixels_NC=p.pixels_NC + 1e-5 * (i + 1)) for p in prompts for i in range(copies)]


def available(engines: Sequence[str], console: Console) -> list[str]:
    try:
        require_vllm()
    except MissingExtra as error:
        left_out = [name for name in engines if name.startswith("vllm")]
        if left_out:
            console.print(f"left out: {', '.join(left_out)} ({error})", markup=False, highlight=False)
        return [name for name in engines if name not in left_out]
    return list(engines)


def measure(engines: Sequence[str], size: Size, cache: Path, console: Console) -> tuple[list[Measured], str]:
    """The engines with their figures, and how long the prompts were."""
    small = [f"paths.cache={cache}", f"data.validation.num_questions={size.questions}", "data.train.num_questions=1"]
    configs = {name: compose("train", [*small, f"paths.runs={cache}/runs", *ENGINES[name]]) for name in engines}
    first = configs[engines[0]]
    policy = load_policy(first)
    encoder = instantiate(first.encoder)
    prompts = [encoder.encode(question) for question in instantiate(first.data.validation).questions]
    with ExitStack() as stack:
        measured = []
        for name, config in configs.items():
            console.print(f"starting {name}", highlight=False)
            engine = instantiate(config.rollout, policy=policy)
            stack.callback(engine.close)
            measured.append(Measured(name, engine, policy))
        for one in measured:
            one.generate(prompts, max(GROUP_SIZES))  # the first call pays for what is set up once
        for number in range(size.rounds):
            for num_completions in GROUP_SIZES:
                console.print(f"round {number + 1} of {size.rounds}, G = {num_completions}", highlight=False)
                for one in measured:
                    one.run_round(prompts, num_completions, size.alone)
    lengths = [prompt.num_tokens for prompt in prompts]
    return measured, f"{min(lengths)} to {max(lengths)}"


def train_steps(overlap: int, size: Size, cache: Path) -> list[dict[str, float]]:
    """Timings of the steps of a short training, without the first, which has nothing in flight, and the last."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "ktr.train", *ENGINES["vllm_server"], "name=overlap", "probe=none"]
        command += [f"rollout.overlap={overlap}", f"rollout.max_staleness={overlap}", f"trainer.max_steps={size.steps}"]
        command += [f"data.train.num_questions={16 * size.steps}", "data.validation.num_questions=4"]
        command += [f"paths.cache={cache}", f"paths.runs={runs}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"training with rollout.overlap={overlap} failed:\n{done.stderr[-4000:]}")
        (timings,) = Path(runs).rglob("timings.csv")
        rows = [row for row in csv.DictReader(timings.open()) if row["train/step_seconds"]]
    return [{key: float(value) for key, value in row.items() if value} for row in rows[1:-1]]


def measure_overlap(size: Size, cache: Path, console: Console) -> dict[str, float]:
    """Median seconds of a step without and with overlap, by trainings that take turns."""
    steps: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    for number, overlap in itertools.product(range(size.trainings), steps):
        console.print(f"training {number + 1} of {size.trainings}, rollout.overlap={overlap}", highlight=False)
        steps[overlap] += train_steps(overlap, size, cache)
    seconds = {f"overlap_{k}_step_seconds": statistics.median(r["train/step_seconds"] for r in steps[k]) for k in steps}
    rollout = statistics.median(row["time/rollout_seconds"] for row in steps[0])
    return seconds | {
        "overlap_1/overlap_0": seconds["overlap_1_step_seconds"] / seconds["overlap_0_step_seconds"],
        "rollout_share_without_overlap": rollout / seconds["overlap_0_step_seconds"],
    }


def figures(measured: Sequence[Measured]) -> dict[str, dict[str, dict[str, float]]]:
    """By engine and number of completions: the medians, and the speed as a ratio to that of transformers."""
    result = {one.name: {str(g): one.medians(g) for g in GROUP_SIZES} for one in measured}
    for by_size in result.values():
        for num_completions, row in by_size.items():
            if "transformers" in result:
                other = result["transformers"][num_completions]
                row["speed"] = row["tokens_per_second"] / other["tokens_per_second"]
    return result


def machine() -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
        **{package: version(package) for package in ("torch", "transformers")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer questions, rounds and steps: figures are rough")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="all of them by default")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark-rollout"), help="folder of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    disable_progress_bar()
    size, console = QUICK if arguments.quick else FULL, Console(width=120)
    engines = available(arguments.engines, console)

    with tempfile.TemporaryDirectory() as name:
        measured, prompt_tokens = measure(engines, size, Path(name), console)
        result: dict[str, Any] = {
            "machine": machine(),
            "workload": {"model": "shapes_tiny", "servers": 2, "prompt_tokens": prompt_tokens, "max_tokens": MAX_TOKENS}
            | vars(size),
            "engines": figures(measured),
            "incidents": [incident for one in measured for incident in one.engine.summary()["incidents"]],
            "overlap": {},
        }
        console.print(table(result))
        if "vllm_server" in engines:
            result["overlap"] = measure_overlap(size, Path(name), console)
            console.print(overlap_sentence(result["overlap"]), highlight=False)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "rollout.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.output / "rollout.md").write_text(markdown(result))
    print(arguments.output / "rollout.md")


if __name__ == "__main__":
    main()
