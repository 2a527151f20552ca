"""What is summed, compared and gathered over ranks is that of the global batch."""

import os
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
import torch.distributed as dist

from ktr.algorithm.importance import mismatch
from ktr.algorithm.scored_group import FirstUpdate, ScoredGroup
from ktr.ranks import gather_over_ranks, share_of_rank
from ktr.training.step_metrics import engine_metrics
from ktr.types import Completion, Experience, PromptInputs, RolloutGroup, TokenScores, TokenWeights
from tests.spawned import on_ranks

MASK = torch.arange(6)[None] < torch.tensor([6, 2, 4, 1])[:, None]
OLD = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
ENGINE = OLD + torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
STALENESS = [1, 0, 2, 1]
VERSION = 7


def metrics_of(*rows: slice) -> dict[str, float]:
    """The metrics of one rank that holds these rows of the batch, a group each."""
    to_learn = [scored(OLD[part], ENGINE[part], MASK[part]) for part in rows]
    groups = [sampled([VERSION - lag for lag in STALENESS[part]]) for part in rows]
    return {k: v.item() for k, v in engine_metrics(to_learn, groups, VERSION, True, torch.device("cpu")).items()}


def sampled(versions: list[int]) -> RolloutGroup:
    completions = tuple(Completion(torch.zeros(1).long(), torch.zeros(1), "", "stop", version) for version in versions)
    return RolloutGroup(MagicMock(PromptInputs), completions)


def scored(old_GT: torch.Tensor, engine_GT: torch.Tensor, mask_GT: torch.Tensor) -> ScoredGroup:
    scores, weights = TokenScores(old_GT), TokenWeights(mask_GT.float())
    apart = mismatch(old_GT, engine_GT, mask_GT)
    first = FirstUpdate(scores, weights, old_GT, torch.zeros(len(old_GT)), apart, 0.5 * mask_GT.float())
    return ScoredGroup(MagicMock(Experience), torch.empty(0, 4), None, 0, first=first)


def report(folder: Path) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=2)
    gathered = gather_over_ranks([{"rank": rank, "values": torch.full((2,), float(i))} for i in range(2)])
    metrics = metrics_of(slice(0, 1), slice(1, 3)) if rank == 0 else metrics_of(slice(3, 4))
    torch.save((gathered, share_of_rank(gathered), metrics), folder / f"{rank}.pt")


@pytest.mark.xdist_group("ranks")
def test_two_ranks_report_the_global_batch_and_find_their_own_part_again(tmp_path: Path):
    on_ranks(report, tmp_path)
    for rank in range(2):
        gathered, share, metrics = torch.load(tmp_path / f"{rank}.pt")
        assert [entry["rank"] for entry in gathered] == [0, 0, 1, 1]
        assert [entry["rank"] for entry in share] == [rank, rank]
        assert metrics == pytest.approx(metrics_of(slice(0, 4)))


def test_the_metrics_are_means_and_maxima_over_tokens_and_completions():
    gaps = (OLD - ENGINE)[MASK]
    assert metrics_of(slice(0, 2), slice(2, 4)) == pytest.approx(
        {
            "rollout/mismatch/mean": gaps.abs().mean().item(),
            "rollout/mismatch/max": gaps.abs().max().item(),
            "rollout/mismatch/kl": (gaps.exp() - 1 - gaps).mean().item(),
            "rollout/importance_mean": 0.5,
            "rollout/staleness/mean": 1.0,
            "rollout/staleness/max": 2,
        }
    )


def test_a_batch_that_nothing_is_learned_from_has_no_mismatch_and_what_is_not_corrected_no_weights():
    metrics = engine_metrics([], [sampled([4, 6])], VERSION, False, torch.device("cpu"))
    assert "rollout/importance_mean" not in metrics
    assert metrics["rollout/mismatch/mean"] == metrics["rollout/mismatch/max"] == 0
    assert metrics["rollout/staleness/mean"] == 2 and metrics["rollout/staleness/max"] == 3
