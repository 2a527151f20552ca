"""Supervised training on written reasoning: next-token loss on the completion, and what is composed with it."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor

from ktr.attribution.views import Factual, View
from ktr.evaluation.accuracy import AccuracyMeter, verdict
from ktr.policy.qwen_vl import QwenVLPolicy
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.scoring.scorer import GroupScorer
from ktr.training.demonstrations import Demonstrations
from ktr.training.failure import stop_on_non_finite
from ktr.training.optim import AdamWCosine
from ktr.training.ranks import sum_gradients_over_ranks, sum_over_ranks
from ktr.training.view_dropout import ViewDropout
from ktr.types import Experience, PromptInputs, RolloutGroup


class AuxiliaryLoss(Protocol):
    """A loss on the visual features of a batch, weight included; the mean over its questions."""

    def __call__(
        self, policy: QwenVLPolicy, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "N D"]]
    ) -> Float[Tensor, ""]: ...


class SFTModule(LightningModule):
    """Imitates the written answers of its questions.

    The loss is −Σ w·log p / Σ w over the demonstrations' tokens of the global batch, with the weights w of
    ``demonstrations``. ``auxiliary`` losses are added to it, by name; the first ``auxiliary_steps`` steps learn from them
    alone. ``view_dropout`` hides the video of some examples. Held-out questions are answered by ``engine`` and judged by
    ``reward``, as in reinforcement.
    """

    def __init__(
        self,
        policy: QwenVLPolicy,
        engine: RolloutEngine,
        scorer: GroupScorer,
        reward: CompositeReward,
        demonstrations: Demonstrations,
        optimizer: AdamWCosine,
        validation_sampling: Mapping[str, SamplingParams],
        failure_dir: str | Path,
        auxiliary: Mapping[str, AuxiliaryLoss] | None = None,
        auxiliary_steps: int = 0,
        view_dropout: ViewDropout | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.policy = policy
        self.engine = engine
        self.scorer = scorer
        self.reward = reward
        self.demonstrations = demonstrations
        self.optimizer_settings = optimizer
        self.failure_dir = Path(failure_dir)
        self.auxiliary = dict(auxiliary or {})
        self.auxiliary_steps = auxiliary_steps
        self.view_dropout = view_dropout
        self.seed = seed
        self.meters = {name: AccuracyMeter(params) for name, params in validation_sampling.items()}
        self.validation_summary: dict[str, dict[str, Any]] = {}

    def training_step(self, batch: list[PromptInputs], batch_idx: int) -> dict[str, Any]:
        groups = [self.demonstrations.group(prompt, self.policy.tokenizer) for prompt in batch]
        features = self.policy.encode_video(batch)
        # Several rows share the tower's graph: gradients gather on these leaves and run through the tower once.
        leaves = [feature.detach().requires_grad_(feature.requires_grad) for feature in features]

        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        optimizer.zero_grad()
        metrics = {f"loss/{name}": self._learn_auxiliary(loss, batch, leaves) for name, loss in self.auxiliary.items()}
        if self.global_step >= self.auxiliary_steps:
            metrics["loss/demonstration"] = self._learn_words(groups, leaves)
        trained = [i for i, leaf in enumerate(leaves) if leaf.grad is not None]
        if trained:
            torch.autograd.backward([features[i] for i in trained], [leaves[i].grad for i in trained])
        metrics["grad/norm"] = self._sum_and_clip_gradients()
        stop_on_non_finite(
            self.failure_dir, self.global_step + 1, metrics, self.policy, [_unjudged(group) for group in groups]
        )
        optimizer.step()
        schedule.step()
        self.engine.load_weights(self.policy.named_weights(), version=self.global_step)

        loss = torch.stack([value for name, value in metrics.items() if name.startswith("loss/")]).sum()
        self.log_dict(metrics | {"loss/total": loss, "lr": schedule.get_last_lr()[0]})
        return {"loss": loss}

    def _learn_auxiliary(
        self, auxiliary: AuxiliaryLoss, prompts: list[PromptInputs], leaves: list[Float[Tensor, "N D"]]
    ) -> Float[Tensor, ""]:
        loss = auxiliary(self.policy, prompts, leaves) / self.trainer.world_size
        self.manual_backward(loss)
        return sum_over_ranks(loss.detach())

    def _learn_words(self, groups: list[RolloutGroup], leaves: list[Float[Tensor, "N D"]]) -> Float[Tensor, ""]:
        """Backward of the demonstrations' loss, one packed row at a time; returns the global batch's loss."""
        weights = [self.demonstrations.weights(group.question, self.policy.tokenizer) for group in groups]
        total_weight = sum_over_ranks(torch.cat(weights).sum().to(self.device))
        views = [self._draw_view(group.prompt) for group in groups]
        self.policy.train()
        loss = torch.zeros((), device=self.device)
        for row in self.scorer.split(groups):
            scores = self.scorer.score_pass(
                self.policy,
                [groups[i] for i in row],
                [leaves[i] for i in row],
                [views[i] for i in row],
                [self._seed(groups[i].prompt) for i in row],
            )
            logps_N = torch.cat([score.logps_GT[0] for score in scores])
            weights_N = torch.cat([weights[i] for i in row]).to(logps_N)
            row_loss = -(logps_N * weights_N).sum() / total_weight
            self.manual_backward(row_loss)
            loss += row_loss.detach()
        self.policy.eval()
        return sum_over_ranks(loss)

    def _draw_view(self, prompt: PromptInputs) -> View:
        if self.view_dropout is None:
            return Factual()
        return self.view_dropout.draw(torch.Generator().manual_seed(self._seed(prompt)))

    def _sum_and_clip_gradients(self) -> Float[Tensor, ""]:
        """The norm of the global batch's gradient before clipping."""
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        sum_gradients_over_ranks(parameters)
        return torch.nn.utils.clip_grad_norm_(parameters, self.optimizer_settings.max_grad_norm)

    def _seed(self, prompt: PromptInputs) -> int:
        """The seed of everything random about a question in this step, whichever rank holds it."""
        return zlib.crc32(f"{self.seed}/{self.global_step}/{prompt.question.id}".encode())

    def validation_step(self, batch: list[PromptInputs], batch_idx: int) -> None:
        self.policy.eval()
        features = self.policy.encode_video(batch)
        seeds = [zlib.crc32(f"validation/{prompt.question.id}".encode()) for prompt in batch]
        for meter in self.meters.values():
            with self.policy.reusing_features(batch, features):
                groups = self.engine.generate(batch, meter.sampling, seeds)
            meter.add([verdict(group, self.reward) for group in groups])

    def on_validation_epoch_end(self) -> None:
        self.validation_summary = {name: meter.summary() for name, meter in self.meters.items()}
        for name, summary in self.validation_summary.items():
            for figure in ("accuracy", "format", "completion_length"):
                self.log(f"val/{name}/{figure}", summary[figure])

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.optimizer_settings.build(self.policy)
        return [optimizer], [schedule]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave prompts where they are: the policy moves what a pass needs."""
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The weights are saved beside, as a model folder."""
        checkpoint["state_dict"] = {}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Nothing to load: the policy was built from the checkpoint's model folder."""

    def decode_tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token on its own, for logs."""
        return [self.policy.tokenizer.decode([token]) for token in ids]


def _unjudged(group: RolloutGroup) -> Experience:
    """A demonstration in the form that a failure's record takes."""
    nothing_G = torch.zeros(len(group.completions))
    return Experience(group, {}, nothing_G, nothing_G)
