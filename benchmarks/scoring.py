"""CPU time and memory of one update's scoring and backward pass: ours beside the reference way, and where ours goes.

    python -m benchmarks.scoring

One question, G = 8 completions of 64 to 128 tokens, prompts of about 1,000 and 2,000 tokens, a small random model of
the 7B's proportions, fp32, one thread. beta = 0.04: every method scores the reference policy. Video-KTR scores the
masked and the shuffled view besides. Methods alternate in one run; times are medians of process time, which other work
on the machine moves less than wall time; peak memory is that of a fresh process above what it held before the update
(frozen tower). Both ways must give the same loss. The last line is JSON with the ratios. Takes about five minutes.
"""

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from benchmarks.reference_scoring import reference_scores
from benchmarks.small_model import random_group, write_model_folder
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.weighting import KeyTokens, TokenWeighting, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.attribution.views import Factual, MaskedVideo, View
from ktr.policy import family as policy_module
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.scorer import GroupScorer
from ktr.types import Medium, TokenScores

METHODS = ("reference_grpo", "reference_ktr", "ours_grpo", "ours_ktr")
# By way, one round's runs: ours is cheap, so its medians are of more runs.
ROUND = ("reference_grpo", *("ours_grpo", "ours_ktr") * 2, "reference_ktr", *("ours_grpo", "ours_ktr") * 2)
ROUNDS = {"frozen": 2, "trained": 1}
PROMPTS = {1000: 8, 2000: 16}  # temporal patches, of 120 visual tokens each, and 102 tokens of text
SECTIONS = ("vision", "reference", "masked view", "shuffled view", "factual forward", "factual head", "backward")
ALGORITHMS: dict[str, TokenWeighting] = {
    "grpo": Uniform(),
    "ktr": KeyTokens(
        {"visual": VisualSignal(), "entropy": EntropySignal(), "temporal": TemporalSignal()}, TopRatio(ratio=0.2)
    ),
}
SEED = 5


class Update(ABC):
    """The loss and the gradients of one update; ``seconds`` is the process time of each section of the last one."""

    def __init__(self, num_patches: int) -> None:
        generator = torch.Generator().manual_seed(2)
        lengths = [128, *torch.randint(64, 129, (7,), generator=generator).tolist()]
        self.group = random_group(lengths, [Medium("video", (num_patches, 20, 24), 1.0)])
        self.advantages_G = torch.randn(len(lengths), generator=generator)
        self.loss = ClippedSurrogate(beta=0.04)
        self.seconds: dict[str, float] = {}

    @abstractmethod
    def scores(self, views: tuple[View, ...], entropy: bool) -> tuple[TokenScores, TokenScores, list[TokenScores]]:
        """Of the policy with gradient, of the reference policy, and of the policy under each of ``views``."""

    def run(self, algorithm: str) -> float:
        self.seconds = dict.fromkeys(SECTIONS, 0.0)
        weighting, mask_GT = ALGORITHMS[algorithm], self.group.completion_mask_GT
        required = weighting.required_views(self.group.prompt.media)
        factual, reference, counterfactual = self.scores(required, entropy=bool(required))
        views = dict(zip(required, counterfactual, strict=True))
        eos_GT = mask_GT & (torch.arange(mask_GT.shape[1]) == mask_GT.sum(1, keepdim=True) - 1)
        terms = self.loss(
            logps_GT=factual.logps_GT,
            old_logps_GT=factual.logps_GT.detach(),
            ref_logps_GT=reference.logps_GT,
            advantages=self.advantages_G,
            completion_mask_GT=mask_GT,
            token_weights_GT=weighting(GroupScores(factual.detach(), views, mask_GT, eos_GT)).weights_GT,
            num_sequences=len(mask_GT),
            num_tokens=int(mask_GT.sum()),
        )
        with self.section("backward"):
            terms.loss.backward()
        return terms.loss.item()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


class Ours(Update):
    """The repository's scoring path."""

    def __init__(self, folder: Path, tower: str, num_patches: int) -> None:
        super().__init__(num_patches)
        self.policy = QwenVLPolicy(folder / "policy", freeze=("vision", "merger") if tower == "frozen" else ())
        self.reference = QwenVLPolicy(folder / "reference").requires_grad_(False)
        # The reference way leaves no word out of the distribution, so neither do we here.
        for policy in (self.policy, self.reference):
            policy.banned_ids = policy.banned_ids[:0]
        self.scorer = GroupScorer()

    def scores(self, views: tuple[View, ...], entropy: bool) -> tuple[TokenScores, TokenScores, list[TokenScores]]:
        self.policy.zero_grad(set_to_none=True)
        prompts, groups, seeds = [self.group.prompt], [self.group], [SEED]
        with self.section("vision"):
            features = self.policy.encode_video(prompts)
            held = [f.detach() for f in features]
            # A tower that is not trained is the reference's tower.
            others = self.reference.encode_video(prompts) if self.policy.trains_vision else held
        with self.section("reference"):
            (reference,) = self.scorer.score(self.reference, groups, others, Factual(), seeds)
        counterfactual = []
        for view in views:
            with self.section("masked view" if isinstance(view, MaskedVideo) else "shuffled view"):
                counterfactual += self.scorer.score(self.policy, groups, held, view, seeds)
        with self.section("factual forward"), patch.object(policy_module, "token_logps", self._timed_head):
            (factual,) = self.scorer.score_pass(self.policy, groups, features, [Factual()], seeds, entropy)
        self.seconds["factual forward"] -= self.seconds["factual head"]
        return factual, reference, counterfactual

    def _timed_head(self, *args, head=policy_module.token_logps, **kwargs):
        with self.section("factual head"):
            return head(*args, **kwargs)


class Reference(Update):
    """The released trainers' way, on transformers' own model and attention."""

    def __init__(self, folder: Path, tower: str, num_patches: int) -> None:
        super().__init__(num_patches)
        self.policy, self.reference = (
            Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / name, attn_implementation="sdpa")
            for name in ("policy", "reference")
        )
        self.policy.model.visual.requires_grad_(tower == "trained")
        self.reference.requires_grad_(False)

    def scores(self, views: tuple[View, ...], entropy: bool) -> tuple[TokenScores, TokenScores, list[TokenScores]]:
        self.policy.zero_grad(set_to_none=True)
        with self.section("factual forward"):
            factual = reference_scores(self.policy, self.group, Factual(), entropy=entropy)
        counterfactual = []
        with torch.no_grad():
            for view in views:
                with self.section("masked view" if isinstance(view, MaskedVideo) else "shuffled view"):
                    counterfactual.append(reference_scores(self.policy, self.group, view, SEED))
            with self.section("reference"):
                reference = reference_scores(self.reference, self.group, Factual())
        return factual, reference, counterfactual


def write_models(folder: Path) -> None:
    """A policy, and a reference policy with other weights but the same tower, as training with a frozen tower has."""
    write_model_folder(folder / "policy", seed=0)
    write_model_folder(folder / "reference", seed=7)
    load = Qwen2_5_VLForConditionalGeneration.from_pretrained
    policy, reference = load(folder / "policy"), load(folder / "reference")
    reference.model.visual.load_state_dict(policy.model.visual.state_dict())
    reference.save_pretrained(folder / "reference")


def measure(folder: Path, tower: str, size: int) -> dict[str, dict[str, float]]:
    """Median seconds of each section of each method, "total" among them; raises where the two ways' losses differ."""
    ways = {"reference": Reference(folder, tower, PROMPTS[size]), "ours": Ours(folder, tower, PROMPTS[size])}
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    losses: dict[str, float] = {}
    for method in ROUND * ROUNDS[tower]:
        way, algorithm = method.split("_")
        gc.collect()
        start = time.process_time()
        losses[method] = ways[way].run(algorithm)
        runs[method].append({**ways[way].seconds, "total": time.process_time() - start})
    for algorithm in ALGORITHMS:
        difference = abs(losses[f"reference_{algorithm}"] - losses[f"ours_{algorithm}"])
        if difference > 1e-5:
            raise AssertionError(f"{algorithm}, {tower} tower, {size} tokens: the losses differ by {difference:.1e}")
    return {m: {s: statistics.median(r[s] for r in rows) for s in (*SECTIONS, "total")} for m, rows in runs.items()}


def peak_memory(folder: Path, tower: str, size: int, method: str) -> float:
    """MiB that one update adds to a fresh process at its peak."""
    arguments = ["--folder", str(folder), "--tower", tower, "--size", str(size), "--memory-of", method]
    child = subprocess.run([sys.executable, "-m", "benchmarks.scoring", *arguments], capture_output=True, text=True)
    if child.returncode != 0:
        raise RuntimeError(f"measuring the memory of {method} failed:\n{child.stderr}")
    return float(child.stdout)


def print_memory_of_one_update(folder: Path, tower: str, size: int, method: str) -> None:
    way, algorithm = method.split("_")
    update = {"reference": Reference, "ours": Ours}[way](folder, tower, PROMPTS[size])
    before = peak_resident_mib()
    update.run(algorithm)
    print(peak_resident_mib() - before)


def peak_resident_mib() -> float:
    """VmHWM, for getrusage's maximum is inherited from the process that started this one."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def ratios(seconds: dict[str, dict[str, float]], memory: dict[str, float]) -> dict[str, float]:
    total = {method: times["total"] for method, times in seconds.items()}
    result = {
        "reference_ktr/ours_ktr": total["reference_ktr"] / total["ours_ktr"],
        "reference_grpo/ours_ktr": total["reference_grpo"] / total["ours_ktr"],
        "reference_grpo/ours_grpo": total["reference_grpo"] / total["ours_grpo"],
        "ours_ktr/ours_grpo": total["ours_ktr"] / total["ours_grpo"],
        **{f"peak_mib_{method}": mib for method, mib in memory.items()},
    }
    if memory:
        result["memory_ours_ktr/reference_ktr"] = memory["ours_ktr"] / memory["reference_ktr"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--folder", "--tower", "--memory-of"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    disable_progress_bar()
    if arguments.memory_of:
        print_memory_of_one_update(Path(arguments.folder), arguments.tower, arguments.size, arguments.memory_of)
        return

    console, result = Console(width=150), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        for tower in ROUNDS:
            for size in PROMPTS:
                seconds = measure(folder, tower, size)
                methods = ("reference_ktr", "ours_ktr") if tower == "frozen" else ()
                memory = {method: peak_memory(folder, tower, size, method) for method in methods}
                console.print(table(f"prompt {PROMPTS[size] * 120 + 102} tokens, tower {tower}", seconds, memory))
                shares = operator_shares(Ours(folder, tower, PROMPTS[size]))
                console.print("ours_ktr by operator: " + ", ".join(f"{k} {v:.0%}" for k, v in shares.items()) + "\n")
                result[f"{tower}_{size}"] = {key: round(value, 3) for key, value in ratios(seconds, memory).items()}
    print(json.dumps(result))


def table(title: str, seconds: dict[str, dict[str, float]], memory: dict[str, float]) -> Table:
    result = Table(title=f"{title}: CPU seconds", title_justify="left")
    for column in ("method", *SECTIONS, "total", "peak MiB"):
        result.add_column(column, justify="left" if column == "method" else "right")
    for method, times in seconds.items():
        cells = [f"{times[section]:.2f}" if times[section] else "" for section in (*SECTIONS, "total")]
        result.add_row(method, *cells, f"{memory[method]:.0f}" if method in memory else "")
    return result


def operator_shares(update: Update) -> dict[str, float]:
    """Where the CPU time of a Video-KTR update goes, by kind of operator."""
    update.run("ktr")  # the first run pays for what is set up once
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        update.run("ktr")
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiler.key_averages()}
    shares = {
        "matrix products": sum(t for name, t in times.items() if name in ("mm", "addmm", "addmm_", "bmm")),
        "attention": sum(t for name, t in times.items() if name.startswith("_scaled_dot_product")),
    }
    total = sum(times.values())
    return {kind: t / total for kind, t in shares.items()} | {"rest": 1 - sum(shares.values()) / total}


if __name__ == "__main__":
    main()
