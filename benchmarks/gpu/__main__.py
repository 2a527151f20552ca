"""One update and generation on a GPU, with random weights of Qwen2.5-VL-3B and 7B, beside what ``ktr.plan`` says.

    python -m benchmarks.gpu                      (--budget 400: seconds that it may take)
    python -m benchmarks.gpu --device cpu --tiny  (the same on a CPU, at a size of nothing)

One question of 16, 32 and 64 frames (128 visual tokens a pair), 8 completions of 384 tokens, bf16, layers checkpointed,
a frozen tower, no KL term: scoring of the views and the update's pass with its backward, for plain GRPO and for
Video-KTR with three signals; our packed way, and full rows of prompt, video and completion as the released trainers
score them. Peak memory is the allocator's; the forecast is the plan's, without optimizer states. The share is the
plan's operations by the card's peak and the time. Generation is of four questions of 16 frames, answers of one length.

Rows go from small to large, ours first; each model has its share of the budget, and what does not fit is named. The
last line is JSON. Without a GPU: one line.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ktr.policy  # noqa: F401  # isort: skip  (before torchvision is imported, see ktr.policy.torchvision_ops)
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.sizes import RandomPolicy, Size, endless, full, make_policy, tiny
from benchmarks.gpu.update import ALGORITHMS, WAYS, measured
from ktr.plan.memory import GIB
from ktr.plan.options import Card, read_card
from ktr.plan.plan import Plan
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine

CARDS = {"H100": "h100", "H200": "h200", "A100": "a100_80", "L40S": "l40s", "4090": "rtx4090"}


@dataclass(frozen=True)
class Row:
    """One line. Numbers are None where the machine, or the way, has none; ``note`` says why there is no time."""

    model: str
    frames: int
    what: str
    seconds: float | None = None
    peak_gib: float | None = None
    forecast_gib: float | None = None
    share: float | None = None
    tokens_per_second: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """Where and how long: ``deadline`` is that of the model at hand, on ``time.monotonic``."""

    size: Size
    device: torch.device
    card: Card
    deadline: float
    peak_tflops: float | None

    def rows(self, model: str, folder: Path) -> Iterator[Row]:
        policy = make_policy(self.size.models[model], folder, self.device)
        for frames in self.size.frames:
            yield from self._updates(policy, model, frames, "ours")
        engine: Any = TransformersEngine(policy)
        engine_frames = self.size.frames[0]
        of_transformers = Row(model, engine_frames, "generation, transformers")
        yield self._in_time(of_transformers, lambda row: self._answers(row, policy, engine))
        for frames in self.size.frames:
            yield from self._updates(policy, model, frames, "reference")
        vllm = Row(model, engine_frames, "generation, vLLM")
        if find_spec("vllm") is None:
            yield replace(vllm, note="vLLM is not installed")
        else:
            policy.zero_grad(set_to_none=True)
            yield self._in_time(vllm, lambda row: self._vllm(row, policy))

    def _updates(self, policy: RandomPolicy, model: str, frames: int, way: str) -> Iterator[Row]:
        for algorithm in ALGORITHMS:
            plan = self.size.plan(model, frames, algorithm, self.card)
            row = Row(model, frames, f"{algorithm}, {way}")
            yield self._in_time(row, lambda row, plan=plan, a=algorithm: self._update(row, policy, plan, a, way))

    def _update(self, row: Row, policy: RandomPolicy, plan: Plan, algorithm: str, way: str) -> Row:
        group = self.size.group(row.model, row.frames)

        def update() -> float:
            return WAYS[way](policy, group, algorithm)

        found = measured(self.device, update)  # pays for what is set up once
        if found is not None and way == "ours":
            found = measured(self.device, update)
        if found is None:
            return replace(row, note="out of memory")
        seconds, peak = found
        row = replace(row, seconds=seconds, peak_gib=None if peak is None else peak / GIB)
        if way != "ours":
            return row
        flops = sum(one.flops for one in plan.passes)
        share = flops / seconds / 1e12 / self.peak_tflops if self.peak_tflops else None
        resident = {name: size for name, size in plan.memory.resident.items() if name != "optimizer states"}
        forecast = sum(resident.values()) + sum(plan.memory.phases["update"].values())
        return replace(row, forecast_gib=forecast / GIB, share=share)

    def _answers(self, row: Row, policy: RandomPolicy, engine: RolloutEngine) -> Row:
        groups = [self.size.group(row.model, row.frames, seed) for seed in range(self.size.num_questions)]
        prompts, seeds = [group.prompt for group in groups], range(len(groups))

        def generate(length: int) -> Callable[[], object]:
            return lambda: engine.generate(prompts, SamplingParams(self.size.num_completions, length), seeds)

        length = self.size.completion_tokens // 3
        with endless(policy):
            found = measured(self.device, generate(2)) and measured(self.device, generate(length))
        if found is None:
            return replace(row, note="out of memory")
        seconds, peak = found
        num_tokens = len(prompts) * self.size.num_completions * length
        peak_gib = None if peak is None else peak / GIB
        return replace(row, seconds=seconds, peak_gib=peak_gib, tokens_per_second=num_tokens / seconds)

    def _vllm(self, row: Row, policy: RandomPolicy) -> Row:
        from ktr.errors import EngineError
        from ktr.rollout.vllm.colocate import VLLMColocateEngine

        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # for the other engine
        room = self.size.group(row.model, row.frames).prompt.num_tokens + self.size.completion_tokens
        engine = VLLMColocateEngine(policy, max_model_len=room, gpu_memory_utilization=0.4, kv_cache_gib=0.25)
        try:
            return replace(self._answers(row, policy, engine), peak_gib=None)  # its memory is what it was given
        except EngineError as error:
            return replace(row, note=str(error))
        finally:
            engine.close()

    def _in_time(self, row: Row, measure: Callable[[Row], Row]) -> Row:
        if time.monotonic() > self.deadline:
            return replace(row, note="left out: no time")
        return measure(row)


def table(rows: list[Row]) -> Table:
    result = Table(title="random weights, bf16", title_justify="left")
    for column in ("model", "frames", "what", "seconds", "peak GiB", "forecast", "of peak FLOPs", "tokens/s", ""):
        result.add_column(column, justify="left" if column in ("model", "what", "") else "right")
    for row in rows:
        numbers = [
            "" if number is None else form.format(number)
            for form, number in (
                ("{:.2f}", row.seconds),
                ("{:.1f}", row.peak_gib),
                ("{:.1f}", row.forecast_gib),
                ("{:.0%}", row.share),
                ("{:,.0f}", row.tokens_per_second),
            )
        ]
        result.add_row(row.model, str(row.frames), row.what, *numbers, row.note)
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=400.0, help="seconds after which no further row is begun")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="models and videos of nothing, for a test")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.stdout.write("benchmarks.gpu: no GPU here, nothing measured\n")
        return 0
    logging.disable(logging.WARNING)
    start, size, device = time.monotonic(), tiny() if arguments.tiny else full(), torch.device(arguments.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    known = next((card for word, card in CARDS.items() if word in name), None)
    card = read_card(known or "h100")
    rows: list[Row] = []
    for number, model in enumerate(size.models, 1):
        deadline = start + arguments.budget * number / len(size.models)
        bench = Bench(size, device, card, deadline, card.bf16_tflops if known else None)
        with tempfile.TemporaryDirectory() as folder:
            for row in bench.rows(model, Path(folder)):
                rows.append(row)
                sys.stderr.write(f"{row.model} {row.frames} {row.what}: {row.note or f'{row.seconds:.2f} s'}\n")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    Console(width=140).print(table(rows))
    result: dict[str, Any] = {"device": name, "seconds": time.monotonic() - start, "rows": [vars(row) for row in rows]}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
