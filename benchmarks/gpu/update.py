"""Scoring and backward of one question: by the parts that training is made of, and the way of the released trainers."""

import gc
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.reference_scoring import reference_scores
from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.weighting import KeyTokens, TokenWeighting, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.attribution.views import Factual
from ktr.policy.prefix_attention import attention_name
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.policy.tower_attention import TOWER_SDPA
from ktr.scoring.scorer import GroupScorer
from ktr.training.learner import Learner, global_counts
from ktr.types import Experience, RolloutGroup

SEED = 5
ALGORITHMS: dict[str, TokenWeighting] = {
    "grpo": Uniform(),
    "video_ktr": KeyTokens(
        {"visual": VisualSignal(), "entropy": EntropySignal(), "temporal": TemporalSignal("frame")},
        TopRatio(ratio=0.2),
    ),
}


def ours(policy: QwenVLPolicy, group: RolloutGroup, algorithm: str) -> float:
    """The loss; gradients are in the policy."""
    policy.zero_grad(set_to_none=True)
    learner = Learner(policy, GroupScorer(), ALGORITHMS[algorithm], ClippedSurrogate(), None, None)
    rewards_G = torch.arange(len(group.completions)).float()  # unequal, so that it is learned from
    judged = [Experience(group, {}, rewards_G, GroupAdvantage()(rewards_G))]
    features = policy.encode_video([group.prompt])
    to_learn = learner.prepare(judged, features, [None], [SEED])
    terms = learner.backward(to_learn, global_counts(judged, policy.device), Tensor.backward)
    return sum(term.loss.item() for term in terms)


def reference(policy: QwenVLPolicy, group: RolloutGroup, algorithm: str) -> float:
    """The same loss from full rows, each completion with a prompt and a video of its own; transformers' attention."""
    policy.zero_grad(set_to_none=True)
    model, weighting = policy.model, ALGORITHMS[algorithm]
    model.set_attn_implementation("sdpa")
    model.train()  # activations are checkpointed in training mode alone
    try:
        factual = reference_scores(model, group, Factual(), banned_ids=policy.banned_ids, entropy=True)
        views = {}
        with torch.no_grad():
            for view in weighting.required_views(group.prompt.media):
                views[view] = reference_scores(model, group, view, SEED, policy.banned_ids, policy.black_patch_C)
        mask_GT = group.completion_mask_GT.to(policy.device)
        advantages_G = GroupAdvantage()(torch.arange(len(mask_GT)).float()).to(policy.device)
        scores = GroupScores.of(group, factual.detach(), views, policy.eos_token_ids, SEED)
        weights_GT = weighting(scores).weights_GT
        old_GT, counts = factual.logps_GT.detach(), (len(mask_GT), group.num_tokens)
        terms = ClippedSurrogate()(factual.logps_GT, old_GT, None, advantages_G, mask_GT, weights_GT, *counts)
        terms.loss.backward()
        return terms.loss.item()
    finally:
        model.eval()
        model.set_attn_implementation({"text_config": attention_name("sdpa"), "vision_config": TOWER_SDPA})


WAYS = {"ours": ours, "reference": reference}


def measured(device: torch.device, run: Callable[[], object]) -> tuple[float, int | None] | None:
    """Seconds of ``run``, and the most bytes it had at a time, which only a GPU says; None where its memory ran out."""
    on_gpu = device.type == "cuda"
    try:
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start, torch.cuda.max_memory_allocated() if on_gpu else None
    except torch.OutOfMemoryError:
        pass  # what its frames held is freed when this ends
    gc.collect()
    torch.cuda.empty_cache()
    return None
