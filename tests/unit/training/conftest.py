"""A small RL module on a random policy, with a reward that random completions can earn."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.weighting import KeyTokens, TokenWeighting, Uniform
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from ktr.training.optim import AdamWCosine
from ktr.training.rl_module import VideoRLModule
from ktr.types import PromptInputs, RolloutGroup
from tests.tiny_policy import fresh_policy, random_prompt
from tests.unit.training.overlapped_run import NeighbourEngine


class ShareOfWord:
    """Pays for the share of tokens with an even id: something that any random policy earns in part."""

    name = "even"

    def __call__(self, group: RolloutGroup) -> torch.Tensor:
        shares = [(completion.token_ids_T % 2 == 0).float().mean() for completion in group.completions]
        return torch.stack(shares)


def key_tokens(ratio: float = 0.2, **signals: Any) -> KeyTokens:
    signals = signals or {"entropy": EntropySignal(), "visual": VisualSignal(), "temporal": TemporalSignal()}
    return KeyTokens(signals, TopRatio(ratio))


MakeModule = Callable[..., VideoRLModule]


@pytest.fixture
def make_module(policy_folder: Path, tmp_path: Path) -> MakeModule:
    """Builds a module on a fresh copy of the random policy; keyword arguments replace parts."""

    def make(
        weighting: TokenWeighting | None = None,
        beta: float = 0.0,
        max_tokens_per_pass: int = 16384,
        policy_settings: dict[str, Any] | None = None,
        lr: float = 1e-3,
        **parts: Any,
    ) -> VideoRLModule:
        policy = QwenVLPolicy(policy_folder, **policy_settings) if policy_settings else fresh_policy(policy_folder)
        return VideoRLModule(
            policy=policy,
            engine=parts.pop("engine", None) or TransformersEngine(policy),
            scorer=GroupScorer(max_tokens_per_pass=max_tokens_per_pass),
            reward=parts.pop("reward", None) or CompositeReward({"even": ShareOfWord()}),
            advantage=parts.pop("advantage", None) or GroupAdvantage(),
            weighting=weighting or Uniform(),
            loss=parts.pop("loss", None) or ClippedSurrogate(beta=beta),
            optimizer=AdamWCosine(lr=lr, total_steps=10),
            sampling=parts.pop("sampling", None) or SamplingParams(num_completions=4, max_tokens=10),
            validation_sampling={},
            failure_dir=tmp_path / "failure",
            reference=Reference(policy, lambda: fresh_policy(policy_folder)),
            **parts,
        )

    return make


@pytest.fixture
def overlapped(make_module: MakeModule, policy_folder: Path) -> Callable[..., tuple[VideoRLModule, NeighbourEngine]]:
    def make(
        overlap: int = 1, offset: float = 0.0, noise: float = 0.0, correction: Any = None, **parts: Any
    ) -> tuple[VideoRLModule, NeighbourEngine]:
        engine = NeighbourEngine(policy_folder, overlap, offset, noise)
        engine.correction = correction
        engine.max_staleness = overlap * parts.get("updates_per_rollout", 1)
        return make_module(engine=engine, **parts), engine

    return make


class FixedBatches(LightningDataModule):
    """The same random prompts whatever the module."""

    def __init__(self, batches: list[list[PromptInputs]]):
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader[list[PromptInputs]]:
        return DataLoader(self.batches, batch_size=None, collate_fn=lambda batch: batch)  # pyright: ignore

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch


def fit(module: VideoRLModule, num_steps: int = 2, num_questions: int = 3, **settings: Any) -> Trainer:
    """Train for ``num_steps`` batches of random prompts."""
    batches = [
        [random_prompt(module.policy, step * num_questions + i) for i in range(num_questions)]
        for step in range(num_steps)
    ]
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=num_steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, FixedBatches(batches))
    return trainer


@pytest.fixture
def only_lightning_asks_for_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's own device is the host where parts of a sharded policy are kept there, and its policy's is not."""
    plain = LightningModule.device

    def device(module: LightningModule) -> torch.device:
        caller = sys._getframe(1).f_code.co_filename
        assert "/lightning/" in caller, f"{caller} asks for the module's device; the policy computes on policy.device"
        return plain.fget(module)  # type: ignore[attr-defined]

    monkeypatch.setattr(LightningModule, "device", property(device))
