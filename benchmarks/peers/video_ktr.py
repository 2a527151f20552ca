"""Steps of our Video-KTR, three signals, no KL term: the parts that the training module is made of, in its order."""

import logging
import sys
from pathlib import Path
from typing import Any

import ktr.policy  # noqa: F401  # isort: skip  (before lightning, see ktr.policy.torchvision_ops)
import torch
from torch import Tensor

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.weighting import KeyTokens
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.scorer import GroupScorer
from ktr.training.learner import Learner, global_counts
from ktr.training.optim import AdamWCosine
from ktr.training.rollout_source import RolloutSource
from ktr.training.step_metrics import StepClock
from ktr.types import Experience, Medium

from ..small_model import EOS, random_group
from .turns import NUM_COMPLETIONS, NUM_PATCHES, WORDS, Size, Turns

SIGNALS = {"visual": VisualSignal(), "entropy": EntropySignal(), "temporal": TemporalSignal()}


def main() -> None:
    folder, size, turns = sys.argv[1], Size.from_json(sys.argv[2]), Turns()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    policy = QwenVLPolicy(Path(folder))
    policy.switch_off_dropout()
    policy.banned_ids = torch.cat([policy.banned_ids, torch.tensor([EOS])])  # all completions are equally long
    engine: Any = TransformersEngine(policy)
    engine.generate = turns.generating(engine.generate)
    sampling = SamplingParams(NUM_COMPLETIONS, size.max_tokens)
    source = RolloutSource(policy, engine, sampling, contrast=None, updates_per_batch=1, seed=0)
    learner = Learner(policy, GroupScorer(), KeyTokens(SIGNALS, TopRatio(ratio=0.2)), ClippedSurrogate(), None, None)
    settings = AdamWCosine(lr=1e-6, total_steps=1000)
    optimizer, schedule = settings.build(policy)
    video = Medium("video", (NUM_PATCHES, size.side, size.side), 1.0)
    prompts = [random_group([1], [video], (4, WORDS - 4), seed=seed).prompt for seed in range(size.questions)]
    rewards_G = torch.arange(NUM_COMPLETIONS).float()  # unequal, so that each group is learned from
    while True:
        turns.begin()
        policy.zero_grad(set_to_none=True)
        rollouts, features, seeds = source.take(prompts, engine.version, lambda: None, StepClock())
        judged = [Experience(group, {}, rewards_G, GroupAdvantage()(rewards_G)) for group in rollouts.groups]
        to_learn = learner.prepare(judged, features, rollouts.old_logps, seeds)
        learner.backward(to_learn, global_counts(judged, policy.device), Tensor.backward)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        engine.load_weights(policy.named_weights(), version=engine.version + 1)
        turns.end()


if __name__ == "__main__":
    main()
