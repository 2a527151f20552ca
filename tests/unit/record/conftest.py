"""A small run, made by hand: groups, their records, and run folders of several kinds."""

import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ktr.algorithm.importance import mismatch
from ktr.algorithm.scored_group import FirstUpdate, ScoredGroup
from ktr.analysis import figures
from ktr.analysis.attribution_summary import attribution_summary
from ktr.record.json_file import write_object
from ktr.record.metrics_csv import MetricsCSV
from ktr.record.run_record import start_run
from ktr.record.token_records import append_records, token_records
from ktr.types import (
    Completion,
    Experience,
    MediaFile,
    Medium,
    PromptInputs,
    RolloutGroup,
    TokenScores,
    TokenWeights,
    VideoQuestion,
)

LENGTHS = (7, 4)
WORDS = ("so", "red", "moves", "left", "</think>", "<b>&", "x")
ROLES = ("decision", "order_motion", "nothing", "order_motion", "nothing", "appearance", "derived")


def make_experience(name: str = "q1", category: str = "nth") -> Experience:
    question = VideoQuestion(
        id=name,
        problem=f"what color is <i>{name}</i> ?",
        problem_type="free-form",
        answer="red & <blue>",
        media=(MediaFile(Path("missing.mp4")),),
        category=category,
    )
    positions, media = torch.zeros(3, 3, dtype=torch.long), (Medium("video", (1, 2, 2)),)
    prompt = PromptInputs(question, torch.arange(3), positions, torch.zeros(4, 6), media)
    completions = tuple(
        Completion(torch.arange(n), -torch.rand(n), " ".join(WORDS[:n]), "stop", weights_version=3) for n in LENGTHS
    )
    rewards_G = torch.tensor([2.0, 1.0])
    parts = {"accuracy": torch.tensor([1.0, 0.0]), "format": torch.ones(2)}
    return Experience(RolloutGroup(prompt, completions), parts, rewards_G, torch.tensor([1.0, -1.0]))


def make_scores() -> TokenScores:
    return TokenScores(-torch.rand(2, 7), torch.rand(2, 7))


def make_weights(signals: tuple[str, ...]) -> TokenWeights:
    """Each signal selects the first two tokens, and "temporal" the second and the fourth."""
    selections = {}
    for signal in signals:
        selected_GT = torch.zeros(2, 7, dtype=torch.bool)
        selected_GT[:, [1, 3] if signal == "temporal" else [0, 1]] = True
        selections[signal] = selected_GT
    union_GT = torch.stack(list(selections.values())).any(0) if signals else torch.ones(2, 7, dtype=torch.bool)
    scores = {signal: selected_GT + 0.1 * torch.rand(2, 7) for signal, selected_GT in selections.items()}
    return TokenWeights(union_GT.float(), selections, scores)


def decode(ids: list[int]) -> list[str]:
    return [WORDS[token] for token in ids]


def make_records(signals: tuple[str, ...], step: int, with_roles: bool, name: str = "q1") -> list[dict]:
    roles = [ROLES[:n] for n in LENGTHS] if with_roles else None
    return token_records(make_experience(name), make_weights(signals), make_scores(), decode, step, roles)


def accuracy(rate: float) -> dict:
    categories = {"nth": {"accuracy": rate, "n": 50}, "color": {"accuracy": rate, "n": 50}}
    return {"accuracy": rate, "n": 100, "low": rate - 0.1, "high": rate + 0.1, "format": 1.0, "by_category": categories}


@pytest.fixture(autouse=True)
def coarse_figures(monkeypatch):
    """Figures of few pixels: no law depends on them, and they take most of the time."""
    monkeypatch.setitem(figures.STYLE, "savefig.dpi", 20)


@pytest.fixture
def make_run(tmp_path):
    """Write a run folder of ``signals``, held-out ground truth included or not."""

    def make(signals: tuple[str, ...] = (), truth: bool = False, num_steps: int = 3) -> Path:
        run_dir = tmp_path / "run"
        start_run(run_dir, OmegaConf.create({"seed": 0, "note": "</pre><script>"}), seed=0)
        logger = MetricsCSV(run_dir)
        for step in range(1, num_steps + 1):
            metrics = {"reward/total": 1 + math.sin(step), "loss/total": 0.1 / step, "train/tokens_per_second": 100.0}
            metrics |= {f"attribution/{signal}/selected_fraction": 0.2 for signal in signals}
            logger.log_metrics(metrics, step)
            append_records(run_dir / "rollouts.jsonl", make_records(signals, step, with_roles=False))
        summary = {
            "algorithm": "some",
            "attribution": {"name": "".join(signal[0] for signal in signals) or "none"},
            "seed": 0,
            "accuracy_before": {"greedy": accuracy(0.6), "sampled": accuracy(0.5)},
            "accuracy_after": {"greedy": accuracy(0.8), "sampled": accuracy(0.7)},
            "interventions": {"black_video": {"accuracy": 0.2, "n": 100}},
        }
        if truth:
            records = make_records(signals, num_steps, with_roles=True, name="q2")
            append_records(run_dir / "attribution.jsonl", records)
            summary["attribution"] |= attribution_summary(records)
        write_object(run_dir / "summary.json", summary)
        return run_dir

    return make


def scored_group(experience: Experience, scores: TokenScores, weights: TokenWeights) -> ScoredGroup:
    """A group after its first update."""
    apart = mismatch(scores.logps_GT, scores.logps_GT, experience.group.completion_mask_GT)
    first = FirstUpdate(scores, weights, scores.logps_GT, experience.advantages_G, apart, None)
    return ScoredGroup(experience, torch.empty(0, 4), None, 0, first=first)
