"""What every training of a policy shares: the optimizer's step, held-out validation, and exact checkpoints."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from ktr.errors import ConfigError
from ktr.evaluation.accuracy import AccuracyMeter, Verdict, verdicts
from ktr.evaluation.parts import reward_parts
from ktr.policy.family import Policy
from ktr.ranks import sum_gradients_over_ranks, whole
from ktr.record.log_once import log_once
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import RolloutEngine, SamplingParams, shared_features
from ktr.training.equal_passes import EqualPasses, OwnPasses
from ktr.training.failure import stop_on_non_finite
from ktr.training.optim import AdamWCosine
from ktr.training.sharded_strategy import ShardedStrategy
from ktr.training.sharding import gathered_for, is_sharded
from ktr.types import Experience, PromptInputs


class PolicyModule(LightningModule):
    """A policy, the engine that answers with it, and the reward that judges its answers.

    ``validation_sampling`` maps a name (greedy, sampled) to how held-out questions are answered. Where a loss or
    gradient is not finite the step stops before the optimizer acts, and ``failure_dir`` keeps what produced it.
    """

    def __init__(
        self,
        policy: Policy,
        engine: RolloutEngine,
        reward: CompositeReward,
        optimizer: AdamWCosine,
        validation_sampling: Mapping[str, SamplingParams],
        failure_dir: str | Path,
        seed: int,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.policy = policy
        self.engine = engine
        self.reward = reward
        self.optimizer_settings = optimizer
        self.failure_dir = Path(failure_dir)
        self.seed = seed
        self.passes = OwnPasses()
        self._answering = ExitStack()
        self.meters = {name: AccuracyMeter(params) for name, params in validation_sampling.items()}
        self.validation_summary: dict[str, dict[str, Any]] = {}
        self.validated_at: int | None = None  # updates before the last validation
        self._pushed_at: int | None = None  # and before the last push

    def setup(self, stage: str) -> None:
        if self.trainer.precision not in ("32-true", "bf16-mixed"):
            # fp16 would need its loss scale taken out before clipping; *-true would convert batches and the policy
            raise ConfigError(
                f"trainer.precision={self.trainer.precision}: choose bf16-mixed (master weights in fp32), "
                "or 32-true with model.dtype=bfloat16 to keep weights in bf16"
            )

    def configure_model(self) -> None:
        """Spread the policy over the ranks where the strategy says so, once."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ShardedStrategy) and not is_sharded(self.policy):
            strategy.shard(self.policy)
            self.passes = EqualPasses(self.policy, strategy.time_limit)

    def admit(self, prompt: PromptInputs) -> None:
        """Raises a ``RowError`` where a step could not learn from a prompt as it should. A method may have reasons."""

    def parts(self) -> dict[str, Any]:
        """What the run is composed of, by the keys of its config, of the kinds that ``evaluation.parts`` knows."""
        return reward_parts(self.reward)

    @property
    def updates_per_batch(self) -> int:
        """Optimizer steps that each batch of questions is worth."""
        return 1

    def configure_optimizers(self) -> Any:
        settings, trainer = self.optimizer_settings, self.trainer
        if trainer.max_steps < 0 and trainer.max_epochs == -1:
            raise ConfigError("trainer.max_steps=-1 trainer.max_epochs=-1: a run needs a length; give one of them")
        if trainer.max_epochs != -1 and settings.total_steps == trainer.max_steps:  # a length in epochs, or in both
            trainer.fit_loop.setup_data()
            in_epochs = int(trainer.num_training_batches * (trainer.max_epochs or 1)) * self.updates_per_batch
            total_steps = in_epochs if trainer.max_steps < 0 else min(in_epochs, trainer.max_steps)
            self.optimizer_settings = replace(settings, total_steps=total_steps)
        optimizer, schedule = self.optimizer_settings.build(self.policy)
        return [optimizer], [schedule]

    def on_train_start(self) -> None:
        optimizer = cast(LightningOptimizer, self.optimizers()).optimizer
        self.optimizer_settings.put_in_force(cast(AdamW, optimizer), cast(LambdaLR, self.lr_schedulers()))
        self.push_weights()

    def push_weights(self) -> None:
        """Have the engine answer with the present weights; to be called on all ranks."""
        self.engine.load_weights(self.policy.named_weights(), version=self.global_step)
        self._pushed_at = self.global_step

    def take_step(self, metrics: dict[str, Tensor], experiences: Sequence[Experience]) -> dict[str, Tensor]:
        """Sum the gradients over ranks, clip them, and step; ``metrics`` comes back with ``lr`` and ``grad/norm``.

        The norm is that before clipping. Raises ``NonFiniteError`` before the step where a metric is not finite.
        """
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        for parameter in parameters:  # a batch that teaches nothing is a step of gradient zero
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        sum_gradients_over_ranks(parameters)
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, self.optimizer_settings.max_grad_norm))
        metrics = metrics | {"grad/norm": norm.to(self.policy.device)}  # from the host, where gradients are there
        stop_on_non_finite(self.failure_dir, self.global_step + 1, metrics, self.policy, experiences)
        cast(LightningOptimizer, self.optimizers()).step()
        schedule = cast(LambdaLR, self.lr_schedulers())
        metrics["lr"] = torch.tensor(schedule.get_last_lr()[0], device=self.policy.device)
        schedule.step()
        return metrics

    def log_row(self, metrics: Mapping[str, Tensor]) -> None:
        """Log an update that is not the last of its batch: Lightning logs at the end of a batch, in one row."""
        values = torch.stack([value.float() for value in metrics.values()]).tolist()
        log_once(self.trainer, dict(zip(metrics, values, strict=True)), self.global_step)

    def on_validation_start(self) -> None:
        if is_sharded(self.policy) and self._pushed_at != self.global_step:
            self.push_weights()  # an engine that starts when it is first asked needs weights, and all ranks for them
        self._answering.enter_context(gathered_for(self.engine, self.policy))  # ranks have unequal numbers of questions

    def on_validation_end(self) -> None:
        self._answering.close()

    def validation_step(self, batch: list[PromptInputs], batch_idx: int) -> None:
        if not batch:  # a rank whose share of the last batch is empty
            return
        self.policy.eval()
        # The same draws at every validation, so that a change is the policy's.
        seeds = [prompt.question.seed("validation") for prompt in batch]
        with shared_features(self.engine, self.policy, batch):
            for meter in self.meters.values():
                groups = self.engine.generate(batch, meter.sampling, seeds)
                meter.add(verdicts(groups, self.reward))

    def on_validation_epoch_end(self) -> None:
        self.validation_summary = {name: meter.summary() for name, meter in self.meters.items()}
        self.validated_at = self.global_step
        for name, summary in self.validation_summary.items():
            for figure in ("accuracy", "format", "completion_length"):
                self.log(f"val/{name}/{figure}", summary[figure])
        self.log("step", float(self.global_step))  # rows of metrics count updates, from 0 before the first

    def validated(self, sampling: SamplingParams) -> dict[str, Verdict]:
        """Verdicts on the answers of the present weights so sampled, by question; empty unless validation has them."""
        current = self.meters.values() if self.validated_at == self.global_step else ()
        return next((meter.summed for meter in current if meter.sampling == sampling), {})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The weights are saved beside, as a model folder."""
        checkpoint["state_dict"] = {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises ConfigError where the run has come further than it is to go."""
        length = self.trainer.max_epochs
        if length is not None and 0 <= length <= checkpoint["epoch"]:
            raise ConfigError(
                f"trainer.max_epochs={length}: the run is in epoch {checkpoint['epoch'] + 1} already; give that or "
                "more, or another name=… for a run of its own"
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Nothing to load: the policy was built from the checkpoint's model folder."""
