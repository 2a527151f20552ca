"""Steps that are filled with groups that teach something, and completions that teach nothing because they were cut."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.reductions import TokenReduction
from ktr.errors import ConfigError
from ktr.rewards.composite import CompositeReward
from ktr.rewards.overlong import SoftOverlong
from ktr.training.dynamic_sampling import DynamicSampling, JudgedBatch
from ktr.training.learner import global_counts
from ktr.training.rl_module import VideoRLModule
from ktr.types import Experience, RolloutGroup
from tests.tiny_policy import random_prompt
from tests.unit.training.conftest import MakeModule
from tests.unit.training.conftest import fit as fit_once
from tests.unit.training.overlapped_run import Record, fit


def of_group(has_signal: bool = True, **parts: list[float]) -> Any:
    reward_parts = {name: torch.tensor(part) for name, part in parts.items()}
    return MagicMock(Experience, has_signal=has_signal, reward_parts=reward_parts)


def batch(*signals: bool) -> JudgedBatch:
    """Groups that only know whether they have a signal; a number tells each from the others."""
    experiences = [of_group(signal) for signal in signals]
    return JudgedBatch(experiences, [torch.zeros(1, 1)] * len(signals), [None] * len(signals), range(len(signals)))


def filled(*batches: JudgedBatch, max_batches: int = 10):
    rest = iter(batches[1:])
    return DynamicSampling(max_batches).fill(batches[0], lambda: next(rest, None))


def test_a_step_takes_batches_until_it_is_full_and_leaves_the_last_groups_over():
    full = filled(batch(True, False, False), batch(False, False, False), batch(True, True, True), batch(True))
    assert list(full.learned.seeds) == [0, 0, 1] and (full.num_batches, full.num_surplus) == (3, 1)
    assert all(experience.has_signal for experience in full.learned.experiences) and len(full.sampled) == 9


def test_a_batch_that_is_full_takes_no_other():
    assert filled(batch(True, True), batch(True, True)).num_batches == 1


@pytest.mark.parametrize("batches", [[batch(False, True)], [batch(False, True), batch(False, False)]])
def test_it_goes_on_with_what_there_is_at_the_bound_and_at_the_end_of_the_data(batches: list[JudgedBatch]):
    short = filled(*batches, max_batches=2)
    assert list(short.learned.seeds) == [1] and short.num_batches == len(batches)
    assert filled(batch(False, False), max_batches=1).learned.experiences == []


def test_a_part_of_the_reward_may_say_which_groups_count():
    by_accuracy = DynamicSampling(part="accuracy")
    assert by_accuracy.keeps(of_group(accuracy=[0.0, 1.0], overlong=[0.0, 0.0]))
    assert not by_accuracy.keeps(of_group(accuracy=[1.0, 1.0], overlong=[0.0, -1.0]))
    with pytest.raises(ConfigError, match=r"part=accuracy: the reward has no such part; it has format"):
        by_accuracy.keeps(of_group(format=[0.0, 1.0]))
    with pytest.raises(ConfigError, match="max_batches=0"):
        DynamicSampling(0)


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean"])
def test_a_penalty_is_a_mean_over_all_completions_also_where_those_that_were_cut_are_masked(
    make_module: MakeModule, reduction: Any
):
    kl = []
    for truncated in ("keep", "mask"):
        loss = ClippedSurrogate(beta=0.1, reduction=TokenReduction(reduction))
        module = make_module(loss=loss, truncated=truncated)
        with torch.no_grad():
            module.policy.model.lm_head.weight *= 1.2  # away from the reference
        metrics = fit_once(module, num_steps=1).callback_metrics
        assert 0.5 < metrics["rollout/truncated_fraction"] < 1
        kl.append(float(metrics["loss/kl"]))
    assert kl[0] == kl[1] > 0


class FewQuestions:
    """A reward that tells apart the completions of every third question only."""

    name = "few"

    def __call__(self, group: RolloutGroup) -> torch.Tensor:
        told = group.question.seed() % 3 == 0
        shares = [(completion.token_ids_T % 2 == 0).float().mean() for completion in group.completions]
        return torch.stack(shares) if told else torch.zeros(len(shares))


def run(module: VideoRLModule, steps: int, record: Record | None = None, resume: Path | None = None) -> Record:
    return fit(module, steps, record, resume, num_questions=24)


@pytest.mark.parametrize("overlap", [0, 1])
def test_a_run_cut_between_two_steps_goes_on_to_the_bit(
    overlapped: Callable[..., tuple[VideoRLModule, Any]], make_module: MakeModule, tmp_path: Path, overlap: int
):
    def module() -> VideoRLModule:
        parts: Any = {"reward": CompositeReward({"few": FewQuestions()}), "dynamic_sampling": DynamicSampling(4)}
        return overlapped(overlap=1, **parts)[0] if overlap else make_module(**parts)

    folder = tmp_path / "saved"
    whole = run(module(), 4, Record(save_at=2, folder=folder))
    taken = [metrics["rollout/num_batches"] for metrics in whole.metrics]
    assert max(taken) > 1 and max(taken) <= 4
    for outputs in whole.outputs:
        assert all(scored.experience.has_signal for scored in outputs["output"].to_learn)
        assert len(outputs["output"].experiences) > len(outputs["output"].to_learn)

    rest = module()
    rest.policy.load_trained(folder)
    resumed = run(rest, 4, resume=folder / "trainer.ckpt")
    assert resumed.metrics == whole.metrics[2:] and rest.num_steps == 4


def test_a_masked_completion_that_was_cut_has_no_advantage_and_no_count(make_module: MakeModule):
    kept, masked = make_module(), make_module(truncated="mask")
    policy: Any = kept.policy
    prompt = random_prompt(policy, 0)
    (group,) = kept.engine.generate([prompt], kept.sampling, [0])
    ends = ("stop", "length", "stop", "length")
    group = replace(
        group, completions=tuple(replace(c, finish_reason=end) for c, end in zip(group.completions, ends, strict=True))
    )
    (whole,), (without,) = kept.judge([group]), masked.judge([group])
    cut_G = torch.tensor([end == "length" for end in ends])
    assert (without.advantages_G[cut_G] == 0).all() and (whole.advantages_G[cut_G] != 0).any()
    assert torch.equal(without.advantages_G[~cut_G], whole.advantages_G[~cut_G])
    device, length = torch.device("cpu"), len(group.completions[0].token_ids_T)
    assert global_counts([whole], device) == (4, 4 * length)
    assert global_counts([without], device, with_truncated=False) == (2, 2 * length)
    assert global_counts([], device) == (1, 1)


def test_the_soft_penalty_is_a_line_over_the_buffer():
    lengths = torch.tensor([1, 6, 8, 10, 12])
    mask_GT = torch.arange(12)[None] < lengths[:, None]
    group = MagicMock(RolloutGroup, completion_mask_GT=mask_GT)
    assert SoftOverlong(maximum=10, buffer=4, penalty=2.0)(group).tolist() == [0, 0, -1, -2, -2]
    with pytest.raises(ConfigError, match="buffer=11"):
        SoftOverlong(maximum=10, buffer=11)
