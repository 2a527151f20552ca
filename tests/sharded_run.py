"""Small runs of a random policy on one process, and on two that hold a half of it each."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.entropy_minority import BatchEntropy
from ktr.algorithm.group_divergence import GroupDivergence
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.weighting import KeyTokens, TokenWeighting, Uniform
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.policy.family import Policy
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.group_divergence import PositionDivergence
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from ktr.training.optim import AdamWCosine
from ktr.training.policy_module import PolicyModule
from ktr.training.rl_module import VideoRLModule
from ktr.training.sharded_strategy import ShardedStrategy
from ktr.types import Medium, RolloutGroup
from tests.tiny_policy import CLIP, IMAGE, VIDEO, random_prompt
from tests.unit.training.conftest import FixedBatches

Media = Sequence[Sequence[Medium]]


class EvenShare(Accuracy):
    """Pays for the share of tokens with an even id; nothing for the questions of ``unpaid``, by their numbers."""

    def __init__(self, unpaid: Sequence[int] = ()):
        super().__init__()
        self.unpaid = {f"q{index}" for index in unpaid}

    def __call__(self, group: RolloutGroup) -> torch.Tensor:
        shares = torch.stack([(c.token_ids_T % 2 == 0).float().mean() for c in group.completions])
        return 0.0 * shares if group.question.id in self.unpaid else shares


@dataclass(frozen=True)
class Setting:
    """What is run: ``media`` of each question of a batch, rank after rank; the rest are parts of the module.

    ``make`` builds another module of a policy than that for reinforcement, and ``data`` what the policy of a folder is
    asked.
    """

    name: str
    weighting: TokenWeighting = field(default_factory=Uniform)
    rewards: Mapping[str, Any] = field(default_factory=lambda: {"accuracy": EvenShare()})
    beta: float = 0.0
    policy: Mapping[str, Any] = field(default_factory=dict)
    media: Media = ((VIDEO,),) * 4
    max_tokens_per_pass: int = 16384
    num_steps: int = 5
    parts: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[[Policy], PolicyModule] | None = None
    data: Callable[[Path], LightningDataModule] | None = None
    num_completions: int = 3


@dataclass
class Outcome(Callback):
    """Loss and gradient's norm of each update of a run, and the weights at its end."""

    metrics: list[tuple[float, float]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        logged = trainer.callback_metrics
        self.metrics.append((float(logged["loss/total"]), float(logged["grad/norm"])))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights = {name: weight.clone() for name, weight in pl_module.policy.named_weights()}


def random_mix(seed: int) -> Setting:
    """Questions about pictures and videos in any mixture, some of them unpaid, for any method."""
    rng = random.Random(seed)
    num_steps, num_questions = 2, 2 * rng.randint(1, 3)
    media = [rng.choices([VIDEO, IMAGE, CLIP], k=rng.choice([1, 1, 2])) for _ in range(num_questions)]
    unpaid = [place for place in range(num_steps * num_questions) if rng.random() < 0.4]
    signals = {
        "entropy": EntropySignal(),
        "visual": VisualSignal(
            rng.choice(["drop", "blank_frames", "noise_frames"]), distance=rng.choice(["js", "logprob"])
        ),
        "temporal": TemporalSignal(rng.choice(["frame", "temporal_patch"])),
    }
    weightings: list[TokenWeighting] = [
        Uniform(),
        KeyTokens(dict(rng.sample([*signals.items()], k=rng.randint(1, 3))), TopRatio()),
        GroupDivergence(PositionDivergence(detach=rng.random() < 0.5)),
        BatchEntropy(),
    ]
    lora = {"lora": {"r": 2, "target_modules": ["q_proj", "down_proj"]}}
    frozen = {"freeze": rng.choice([[], ["vision"], ["vision", "merger"], ["embeddings"]])}
    return Setting(
        f"mix {seed}",
        rng.choice(weightings),
        {"accuracy": EvenShare(unpaid)},
        rng.choice([0.0, 0.1]),
        (lora if rng.random() < 0.2 else frozen) | {"gradient_checkpointing": rng.random() < 0.5},
        media,
        rng.choice([1, 80, 16384]),
        num_steps,
        num_completions=rng.randint(2, 4),
    )


def run(
    setting: Setting, folder: Path, sharded: bool = False, callbacks: Sequence[Callback] = (), **fit: Any
) -> Outcome:
    """Train as ``setting`` says the policy of ``folder``, in this process or as one rank of several."""
    torch.manual_seed(0)  # adapters are drawn, alike on all ranks
    policy = QwenVLPolicy(folder, **setting.policy)
    module = _module(setting, policy, folder) if setting.make is None else setting.make(policy)
    rank, size = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")) if sharded else (0, 1)
    data = _random_data(setting, policy, rank, size) if setting.data is None else setting.data(folder)
    outcome = Outcome()
    trainer = Trainer(
        accelerator="cpu",
        devices=size,
        strategy=ShardedStrategy(time_limit_s=300) if sharded else "auto",
        max_steps=setting.num_steps,
        logger=False,
        callbacks=[outcome, *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data, **fit)
    return outcome


def _random_data(setting: Setting, policy: Policy, rank: int, size: int) -> FixedBatches:
    share = len(setting.media) // size
    mine = range(rank * share, (rank + 1) * share)
    return FixedBatches(
        [
            [random_prompt(policy, step * len(setting.media) + place, setting.media[place]) for place in mine]
            for step in range(setting.num_steps)
        ]
    )


def _module(setting: Setting, policy: QwenVLPolicy, folder: Path) -> VideoRLModule:
    return VideoRLModule(
        policy=policy,
        engine=TransformersEngine(policy),
        scorer=GroupScorer(max_tokens_per_pass=setting.max_tokens_per_pass),
        reward=CompositeReward(dict(setting.rewards)),
        advantage=GroupAdvantage(),
        weighting=setting.weighting,
        loss=ClippedSurrogate(beta=setting.beta),
        optimizer=AdamWCosine(lr=1e-4, total_steps=10),
        sampling=SamplingParams(num_completions=setting.num_completions, max_tokens=8),
        validation_sampling={},
        failure_dir=folder / "failure",
        reference=Reference(policy, lambda: QwenVLPolicy(folder)),
        **setting.parts,
    )
