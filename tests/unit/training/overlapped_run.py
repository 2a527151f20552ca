"""A run whose engine stands beside the trainer, with a policy of its own, as a server's does."""

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer

from ktr.algorithm.importance import ImportanceCorrection
from ktr.data.loaders import StreamPosition, TrainLoader
from ktr.data.order import QuestionOrder
from ktr.data.skips import SkipLog
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.training.checkpoint import ModelFolderCheckpoint
from ktr.training.policy_module import PolicyModule
from ktr.types import PromptInputs, RolloutGroup
from tests.tiny_policy import fresh_policy, random_prompt


class NeighbourEngine(TransformersEngine):
    """Samples from a policy of its own, which only a push changes, and remembers what it was asked.

    ``offset`` is added to the log-probs that it reports; ``noise`` to the language model's weights at each push.
    """

    def __init__(self, folder: Path, overlap: int = 1, offset: float = 0.0, noise: float = 0.0):
        super().__init__(fresh_policy(folder).eval())
        self.overlap = self.max_staleness = overlap
        self.correction: ImportanceCorrection | None = None
        self.offset, self.noise = offset, noise
        self.pushed: dict[int, dict[str, torch.Tensor]] = {}
        self.threads: list[str] = []
        self.versions: list[int] = []
        self.running = 0
        self.before_answer: Callable[[], Any] = lambda: None  # in the thread of an overlapped generation

    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        self.running += 1
        self.threads.append(threading.current_thread().name)
        self.versions.append(self.version)
        try:
            if threading.current_thread() is not threading.main_thread():
                self.before_answer()
            groups = super().generate(prompts, sampling, seeds)
        finally:
            self.running -= 1
        for completion in (c for group in groups for c in group.completions):
            completion.logps_T.add_(self.offset)
        return groups

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        assert not self.running, "a push while sampling"
        self.pushed[version] = {name: tensor.clone() for name, tensor in named_tensors}
        self.policy.model.load_state_dict(self.pushed[version])
        generator = torch.Generator().manual_seed(version)
        for parameter in self.policy.model.model.language_model.layers.parameters():
            parameter.data += self.noise * torch.randn(parameter.shape, generator=generator)
        self.version = version


class Questions(LightningDataModule):
    """Epochs of random prompts, from a loader that can be looked ahead in."""

    def __init__(self, policy: QwenVLPolicy, num_questions: int, per_step: int):
        super().__init__()
        self.prompts = [random_prompt(policy, i) for i in range(num_questions)]
        self.per_step = per_step
        self.position = StreamPosition()

    def train_dataloader(self) -> TrainLoader:
        questions = [prompt.question for prompt in self.prompts]
        encode = {prompt.question.id: prompt for prompt in self.prompts}
        order = QuestionOrder(len(questions), seed=0)
        return TrainLoader(questions, lambda q: encode[q.id], order, self.per_step, self.position, SkipLog())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch


class Record(Callback):
    """What each step returned and logged; a checkpoint after step ``save_at``."""

    def __init__(self, save_at: int = -1, folder: Path | None = None):
        self.save_at, self.folder = save_at, folder
        self.outputs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)
        self.metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})
        if trainer.global_step == self.save_at and self.folder is not None:
            pl_module.policy.save(self.folder)
            trainer.save_checkpoint(self.folder / "trainer.ckpt")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["lr_schedulers"][0]["lr_lambdas"] = [None]  # the tests' type checks wrap it, and can't be pickled

    def versions(self) -> list[set[int]]:
        return [
            {c.weights_version for e in out["output"].experiences for c in e.group.completions} for out in self.outputs
        ]


class Saved(ModelFolderCheckpoint):
    """A checkpoint that can be written with the tests' type checks on."""

    on_save_checkpoint = Record.on_save_checkpoint


def fit(
    module: PolicyModule,
    steps: int,
    record: Record | None = None,
    resume: Path | None = None,
    num_questions: int = 9,
    **settings: Any,
) -> Record:
    """Batches of 3 questions, so that an epoch of 9 has 3 steps."""
    record = record or Record()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"logger": False, "callbacks": [record]} | settings),
    )
    trainer.fit(module, Questions(module.policy, num_questions, 3), ckpt_path=resume, weights_only=True)
    return record
