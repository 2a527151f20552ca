"""No part of a step takes tensors of the host and of the policy's device together; on any device it is the same step.

The device is pretended (``tests.pretended_card``), in a process of its own.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.cispo import ClippedImportance
from ktr.algorithm.entropy_minority import BatchEntropy
from ktr.algorithm.group_divergence import GroupDivergence
from ktr.algorithm.importance import SequenceMask, TokenTruncation
from ktr.algorithm.likely_tokens import LikelyTokens
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.penalties import MaskedViewDivergence, SampledSurprise
from ktr.algorithm.ratios import SequenceRatio
from ktr.algorithm.reasoning_tokens import ReasoningTokens
from ktr.algorithm.scored_group import ScoredGroup
from ktr.algorithm.token_baseline import OptimalTokenBaseline
from ktr.algorithm.video_ktr_released import GroupQuantile, ReleasedKeyTokens
from ktr.algorithm.visual_dependency import VisualDependency
from ktr.algorithm.weighting import KeyTokens, RandomTokens
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, RandomSignal, TemporalSignal, VisualSignal
from ktr.attribution.soft_ranks import SoftRanks
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.record.token_statistics import token_statistics
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.group_divergence import PositionDivergence
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from ktr.training.gradient_alignment import alignment, loss_variance, token_parts
from ktr.training.learner import Learner, global_counts
from ktr.training.step_metrics import engine_metrics, loss_metrics
from ktr.training.token_gradients import TokenGradients, pulls
from ktr.types import Experience, RolloutGroup
from tests.spawned import in_own_process
from tests.tiny_policy import VIDEO, random_prompt, save_random_policy


def signals(**visual: Any) -> dict[str, Any]:
    shuffled = TemporalSignal("frame", "segmental")
    return {"entropy": EntropySignal(), "visual": VisualSignal(**visual), "temporal": shuffled}


def learners(policy: QwenVLPolicy, frozen: QwenVLPolicy) -> dict[str, Learner]:
    """Every weighting and loss, with each kind of view, distance, selection, penalty and correction."""
    scorer = GroupScorer(chunk_size=30)
    loss, top = ClippedSurrogate(), TopRatio(0.3)
    reference = Reference(policy, lambda: frozen)
    soft, released = (
        SoftRanks("exponential", sharpness=5.0),
        ReleasedKeyTokens(signals(masking="drop_compact", shift="signed", fraction=0.5), GroupQuantile()),
    )
    key = KeyTokens(signals(masking="zero", fraction=0.5, distance="js"), top)
    selected = ClippedSurrogate(beta=0.1, kl_scope="selected")
    penalties = ClippedSurrogate(penalties={"view": MaskedViewDivergence(), "entropy": SampledSurprise(0.1)})
    divergence = GroupDivergence(PositionDivergence(detach=False))
    random = RandomTokens(signals(masking="blank_frames") | {"random": RandomSignal()}, soft, within="position")
    reasoning = ReasoningTokens(policy.tokenizer, signals(masking="noise_frames", distance="kl"), top)
    return {
        "key": Learner(policy, scorer, key, selected, reference, None),
        "released": Learner(policy, scorer, released, loss, None, TokenTruncation()),
        "divergence": Learner(policy, scorer, divergence, ClippedImportance(), None, SequenceMask()),
        "batch": Learner(policy, scorer, BatchEntropy(), ClippedSurrogate(ratio=SequenceRatio()), None, None),
        "random": Learner(policy, scorer, random, loss, None, None),
        "reasoning": Learner(policy, scorer, reasoning, loss, None, None),
        "dependency": Learner(policy, scorer, VisualDependency(signals(), top), penalties, None, None),
        "likely": Learner(policy, scorer, LikelyTokens(), loss, None, None, OptimalTokenBaseline()),
    }


def step(policy: QwenVLPolicy, learner: Learner, groups: list[RolloutGroup]) -> dict[str, float]:
    """What an update and the callbacks that look at it say."""
    rewards = [torch.arange(len(group.completions)).float() for group in groups]
    judged = [Experience(group, {}, r, GroupAdvantage()(r)) for group, r in zip(groups, rewards, strict=True)]
    policy.zero_grad()
    features = policy.encode_video([group.prompt for group in groups])
    to_learn = learner.prepare(judged, features, [None] * len(groups), [7, 8])
    counts = global_counts(judged, policy.device)
    terms = learner.backward(to_learn, counts, Tensor.backward)
    weights = [scored.first.weights for scored in to_learn if scored.first is not None]
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    logged = loss_metrics(terms, policy.device) | engine_metrics(to_learn, groups, 0, True, policy.device)
    told = {"norm": float(norm)} | {name: float(value) for name, value in logged.items()}
    if learner.reference is not None:  # of one learner: the parts cost as much as the step
        told |= parts_of_the_gradient(policy, learner, to_learn)
    return told | loss_variance(learner.loss, to_learn, policy.device) | token_statistics(judged, weights)


def parts_of_the_gradient(policy: QwenVLPolicy, learner: Learner, to_learn: list[ScoredGroup]) -> dict[str, float]:
    parameters = [parameter for parameter in policy.decoder_layers[-1].parameters() if parameter.requires_grad]
    of_loss = [pulls(learner.loss, scored, (6, 30)) for scored in to_learn]
    gradients, _ = TokenGradients(policy, learner.scorer, parameters).of_parts(
        to_learn, of_loss, token_parts(to_learn, None, 3), token_norms=True
    )
    return alignment({name: torch.cat([g.flatten() for g in of_part]) for name, of_part in gradients.items()})


def assert_one_step_everywhere(folder: Path) -> None:
    from tests.pretended_card import CARD

    sampling, told = SamplingParams(3, 6, temperature=0.8, top_p=0.9), {}
    for device in (torch.device("cpu"), CARD):
        policy = QwenVLPolicy(folder, gradient_checkpointing=True).eval().to(device)
        assert {parameter.device for parameter in policy.parameters()} == {device}
        prompts = [random_prompt(policy, 1), random_prompt(policy, 2, (VIDEO, VIDEO))]
        groups = TransformersEngine(policy).generate(prompts, sampling, seeds=[1, 2])
        told[device] = {
            name: step(policy, learner, groups) for name, learner in learners(policy, QwenVLPolicy(folder)).items()
        }
    for name, on_cpu in told[torch.device("cpu")].items():
        torch.testing.assert_close(told[CARD][name], on_cpu, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_a_step_is_on_one_device(tmp_path: Path):
    in_own_process(assert_one_step_everywhere, save_random_policy(tmp_path))
