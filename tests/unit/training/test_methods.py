"""Laws of the methods that are more than a weighting of tokens, in the training step."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback

from ktr.algorithm.entropy_minority import BatchEntropy
from ktr.algorithm.group_divergence import GroupDivergence
from ktr.algorithm.token_baseline import OptimalTokenBaseline
from ktr.algorithm.weighting import TokenWeighting, Uniform
from ktr.config.composing import compose
from ktr.errors import ConfigError
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.composite import CompositeReward
from ktr.rewards.length import Length
from ktr.rewards.temporal_contrast import TemporalContrast
from ktr.rollout.engine import SamplingParams
from ktr.rollout.group_sampler import GroupSampler
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.group_divergence import PositionDivergence
from ktr.types import RolloutGroup
from tests.tiny_policy import IMAGE, VIDEO, random_prompt
from tests.unit.training.conftest import MakeModule, fit, key_tokens
from tests.unit.training.overlapped_run import NeighbourEngine, Record
from tests.unit.training.overlapped_run import fit as fit_ahead


class EvenShare(Accuracy):
    """An accuracy that the random completions of a random policy have in part."""

    def __call__(self, group: RolloutGroup) -> torch.Tensor:
        return torch.stack([(c.token_ids_T % 2 == 0).float().mean() for c in group.completions])


class Unpaid(Accuracy):
    """Nothing for any completion."""

    def __call__(self, group: RolloutGroup) -> torch.Tensor:
        return torch.zeros(len(group.completions))


def even(**parts: Any) -> CompositeReward:
    return CompositeReward({"accuracy": EvenShare(), **parts})


def contrast(bonus: float = 0.3, mu: float = 0.5) -> TemporalContrast:
    return TemporalContrast(EvenShare(), mu=mu, bonus=bonus, threshold=0.5)


def trained(module: Any, **settings: Any) -> list[torch.Tensor]:
    fit(module, **settings)
    return [weight.clone() for _, weight in module.policy.named_weights()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Outputs(Callback):
    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)


def outputs_of(module: Any, **settings: Any) -> list[dict[str, Any]]:
    callback = Outputs()
    fit(module, callbacks=[callback], **settings)
    return callback.outputs


@pytest.mark.parametrize("weighting", [Uniform(), key_tokens()], ids=["grpo", "vet"])
def test_t_grpo_without_its_bonus_is_the_run_without_it_to_the_bit(make_module: MakeModule, weighting):
    plain = trained(make_module(weighting, reward=even()))
    assert equal(trained(make_module(weighting, reward=even(contrast=contrast(bonus=0.0)))), plain)
    assert not equal(trained(make_module(weighting, reward=even(contrast=contrast()))), plain)


def test_completions_about_the_shuffled_video_shape_the_reward_and_are_not_learned_from(make_module: MakeModule):
    plain = outputs_of(make_module(reward=even()), num_steps=1)[0]
    (out,) = outputs_of(make_module(reward=even(contrast=contrast())), num_steps=1)
    for experience, without in zip(out["output"].experiences, plain["output"].experiences, strict=True):
        group = experience.group
        assert (len(group.completions), len(group.contrast)) == (4, 2)
        assert [c.text for c in group.completions] == [c.text for c in without.group.completions]
        accuracies, bonus = experience.reward_parts["accuracy"], experience.reward_parts["contrast"]
        shuffled = EvenShare()(RolloutGroup(group.prompt, group.contrast))
        helps = accuracies.mean() >= 0.5 * shuffled.mean()
        torch.testing.assert_close(bonus, 0.3 * (helps & (accuracies > 0.5)).float())
        torch.testing.assert_close(experience.rewards_G, accuracies + bonus)
        assert without.group.contrast == ()
    for scored in out["output"].to_learn:
        assert scored.first.factual.logps_GT.shape == scored.experience.group.completion_mask_GT.shape


def test_the_contrast_sees_another_video_draws_anew_and_spares_images(policy):
    prompts = [random_prompt(policy, 0), random_prompt(policy, 1, [IMAGE]), random_prompt(policy, 2)]
    engine, sampling = TransformersEngine(policy), SamplingParams(num_completions=4, max_tokens=8)
    asked: list[Any] = []

    class Listening(TransformersEngine):
        def generate(self, prompts, sampling, seeds):
            asked.append((list(prompts), sampling, list(seeds)))
            return super().generate(prompts, sampling, seeds)

    sampler = GroupSampler(Listening(policy), contrast().contrast, policy.temporal_patch_size)
    groups = sampler.generate(prompts, sampling, [5, 6, 7])
    assert [len(group.contrast) for group in groups] == [2, 0, 2]
    (_, _, seeds), (shuffled, few, other_seeds) = asked
    assert few.num_completions == 2 and not set(seeds) & set(other_seeds)
    for video, original in zip(shuffled, (prompts[0], prompts[2]), strict=True):
        assert not torch.equal(video.pixels_NC, original.pixels_NC)
    alone = sampler.generate(prompts[2:], sampling, [7])
    assert [c.text for c in alone[0].contrast] == [c.text for c in groups[2].contrast]
    plain = GroupSampler(engine, None, policy.temporal_patch_size).generate(prompts, sampling, [5, 6, 7])
    assert [c.text for g in plain for c in g.completions] == [c.text for g in groups for c in g.completions]


def ahead(make_module: MakeModule, folder: Path, reward: CompositeReward) -> Any:
    return make_module(engine=NeighbourEngine(folder), reward=reward)


def test_rollouts_that_were_made_ahead_have_their_contrast_too(make_module: MakeModule, policy_folder: Path):
    record = fit_ahead(ahead(make_module, policy_folder, even(contrast=contrast())), 3)
    groups = [e.group for out in record.outputs for e in out["output"].experiences]
    assert len(groups) == 9 and all(len(group.contrast) == 2 for group in groups)
    assert {c.weights_version for c in groups[3].completions} == {c.weights_version for c in groups[3].contrast}


def test_a_resumed_run_judges_by_the_contrast_it_was_saved_with(
    make_module: MakeModule, policy_folder: Path, tmp_path: Path
):
    whole = fit_ahead(
        ahead(make_module, policy_folder, even(contrast=contrast())), 3, Record(save_at=2, folder=tmp_path / "two")
    )
    module = ahead(make_module, policy_folder, even(contrast=contrast()))
    module.policy.load_trained(tmp_path / "two")
    again = fit_ahead(module, 3, resume=tmp_path / "two" / "trainer.ckpt")
    outputs = whole.outputs[2]["output"], again.outputs[0]["output"]
    for a, b in zip(*(output.experiences for output in outputs), strict=True):
        assert torch.equal(a.rewards_G, b.rewards_G)
        assert [c.text for c in a.group.contrast] == [c.text for c in b.group.contrast] != []


@pytest.mark.parametrize("detach", [True, False])
def test_tw_grpo_at_alpha_one_is_grpo_to_the_bit(make_module: MakeModule, detach):
    weighting = GroupDivergence(PositionDivergence(detach), alpha=1.0)
    assert equal(trained(make_module(weighting)), trained(make_module(Uniform())))


def test_gradients_flow_through_the_weights_only_where_they_are_kept(make_module: MakeModule):
    runs = [
        trained(make_module(w))
        for w in (
            Uniform(),
            GroupDivergence(PositionDivergence()),
            GroupDivergence(PositionDivergence(detach=False)),
        )
    ]
    assert not equal(runs[0], runs[1]) and not equal(runs[1], runs[2])


def test_what_a_step_reports_and_uses_again_carries_no_gradient(make_module: MakeModule):
    module = make_module(GroupDivergence(PositionDivergence(detach=False)), updates_per_rollout=2)
    for out in outputs_of(module, num_steps=2):
        assert not any(scored.first.weights.weights_GT.requires_grad for scored in out["output"].to_learn)


def test_a_threshold_over_the_batch_selects_its_share_of_the_batch(make_module: MakeModule):
    (out,) = outputs_of(make_module(BatchEntropy(0.25)), num_steps=1)
    masks = [scored.experience.group.completion_mask_GT for scored in out["output"].to_learn]
    firsts = [scored.first for scored in out["output"].to_learn]
    entropies = torch.cat([first.factual.entropies_GT[mask] for first, mask in zip(firsts, masks, strict=True)])
    weights = [first.weights.weights_GT[mask] for first, mask in zip(firsts, masks, strict=True)]
    selected = torch.cat(weights).bool()
    # The first words of a group's completions tie, for they have one prompt; ties at the threshold are kept.
    threshold = entropies.topk(math.ceil(0.25 * len(entropies))).values[-1]
    assert torch.equal(selected, entropies >= threshold) and 0.25 <= selected.float().mean() < 0.35
    shares = [float(of_group.mean()) for of_group in weights]
    assert max(shares) - min(shares) > 0.02  # the batch's share, not each group's


def test_the_whole_batch_as_its_entropy_minority_is_grpo_to_the_bit(make_module: MakeModule):
    assert equal(trained(make_module(BatchEntropy(1.0))), trained(make_module(Uniform())))


def released_length(count: str = "selected") -> Length:
    return Length(EvenShare(), minimum=1, maximum=4, count=count)


@pytest.mark.parametrize("weighting", [key_tokens(), BatchEntropy(0.3), Uniform()], ids=["vet", "batch", "grpo"])
def test_a_reward_may_count_the_tokens_that_are_weighed(make_module: MakeModule, weighting: TokenWeighting):
    (out,) = outputs_of(make_module(weighting, reward=even(length=released_length())), num_steps=1)
    for scored in out["output"].to_learn:
        experience, counts_G = scored.experience, (scored.first.weights.weights_GT != 0).sum(1)
        assert torch.equal(experience.group.num_selected_G, counts_G)
        right_G = experience.reward_parts["accuracy"] > 0.1
        moderate_G = (counts_G >= 1) & (counts_G <= 4)
        expected_G = 0.2 * (right_G & moderate_G & (right_G.sum() > 1)).float()
        torch.testing.assert_close(experience.reward_parts["length"], expected_G)


def test_a_reward_that_counts_selected_tokens_is_refused_with_an_overlap(make_module: MakeModule, policy_folder: Path):
    with pytest.raises(ConfigError, match=r"count=selected.*overlap=0"):
        ahead(make_module, policy_folder, even(length=released_length()))
    ahead(make_module, policy_folder, even(length=released_length("completion")))


METHODS_AFTER = ["dr_grpo", "dapo", "gspo", "cispo", "papo", "vppo", "otb"]


@pytest.mark.parametrize("algorithm", METHODS_AFTER)
def test_a_method_after_grpo_learns_from_its_composition(algorithm: str, make_module: MakeModule):
    config: Any = compose("train", [f"algorithm={algorithm}"])
    names = ("loss", "advantage", "weighting")
    built = {name: instantiate(config[name], _convert_="all") for name in names}
    module = make_module(**built, updates_per_rollout=2)
    before = [weight.clone() for _, weight in module.policy.named_weights()]
    outputs = Outputs()
    fit(module, callbacks=[outputs])
    assert not equal(before, [weight for _, weight in module.policy.named_weights()])
    assert all(math.isfinite(output["loss"]) for output in outputs.outputs)
    assert {view.name for view in module.learner.loss.required_views([VIDEO])} == (
        {"masked"} if algorithm == "papo" else set()
    )


def test_an_advantage_of_tokens_needs_all_completions(make_module: MakeModule):
    with pytest.raises(ConfigError, match=r"algorithm\.truncated=mask leaves completions out"):
        make_module(advantage=OptimalTokenBaseline(), truncated="mask")


@pytest.mark.parametrize("algorithm", ["papo", "grpo"])
def test_groups_of_equal_rewards_teach_where_tokens_are_paid_for_the_video(algorithm: str, make_module: MakeModule):
    loss = instantiate(compose("train", [f"algorithm={algorithm}"]).loss, _convert_="all")
    module = make_module(loss=loss, reward=CompositeReward({"same": Unpaid()}))
    before = [weight.clone() for _, weight in module.policy.named_weights()]
    assert equal(before, trained(module)) == (algorithm == "grpo")
