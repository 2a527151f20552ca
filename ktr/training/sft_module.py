"""Supervised training on written reasoning: next-token loss on the completion, and what is composed with it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import Factual, View
from ktr.errors import ConfigError
from ktr.policy.family import Policy
from ktr.ranks import sum_over_ranks
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.scoring.scorer import GroupScorer
from ktr.training.demonstrations import Demonstrations
from ktr.training.feature_graph import cut_graph
from ktr.training.optim import AdamWCosine
from ktr.training.policy_module import PolicyModule
from ktr.training.view_dropout import ViewDropout
from ktr.types import Experience, PromptInputs, RolloutGroup


@runtime_checkable
class AuxiliaryLoss(Protocol):
    """A loss on the visual features of a batch, weight included; the mean over its questions."""

    def __call__(
        self, policy: Policy, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "_ F"]]
    ) -> Float[Tensor, ""]: ...


class SFTModule(PolicyModule):
    """Imitates the written answers of its questions.

    The loss is −Σ w·log p / Σ w over the demonstrations' tokens of the global batch, with the weights w of
    ``demonstrations``; 0 where none has a weight. ``auxiliary`` losses are added to it, by name; the first
    ``auxiliary_steps`` steps learn from them alone. ``view_dropout`` hides the video of some examples. Held-out
    questions are answered by ``engine`` and judged by ``reward``, as in reinforcement.
    """

    def __init__(
        self,
        policy: Policy,
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
        super().__init__(policy, engine, reward, optimizer, validation_sampling, failure_dir, seed)
        if auxiliary_steps and not auxiliary:
            raise ConfigError(
                f"algorithm.auxiliary_steps={auxiliary_steps}: those steps learn from auxiliary losses alone, and "
                "there is none; give one, or auxiliary_steps=0"
            )
        self.scorer = replace(scorer, temperature=1.0)  # what is imitated was not sampled: the model's own log-probs
        self.demonstrations = demonstrations
        self.auxiliary = dict(auxiliary or {})
        self.auxiliary_steps = auxiliary_steps
        self.view_dropout = view_dropout

    def admit(self, prompt: PromptInputs) -> None:
        """Raises a ``RowError`` where the demonstration leaves the context, or its roles do not fit its words."""
        limit = self.policy.model.config.get_text_config().max_position_embeddings
        self.demonstrations.check(prompt, self.policy.tokenizer, limit)

    def training_step(self, batch: list[PromptInputs], batch_idx: int) -> dict[str, Any]:
        groups = [self.demonstrations.group(prompt, self.policy.tokenizer) for prompt in batch]
        self.policy.zero_grad()  # before the first pass: what a pass gathers has gradients of its own
        features = self.policy.encode_video(batch)
        leaves = cut_graph(features)  # packed rows share the tower's graph

        metrics = {f"loss/{name}": self._learn_auxiliary(loss, batch, leaves) for name, loss in self.auxiliary.items()}
        if self.global_step >= self.auxiliary_steps:
            metrics["loss/demonstration"] = self._learn_words(groups, leaves)
        self.passes.backward_through_cut(features, leaves)
        self.passes.meet()
        metrics = self.take_step(metrics, [_unjudged(group) for group in groups])
        self.push_weights()

        loss = torch.stack([value for name, value in metrics.items() if name.startswith("loss/")]).sum()
        self.log_dict(metrics | {"loss/total": loss, "step": float(self.global_step)})
        return {"loss": loss}

    def _learn_auxiliary(
        self, auxiliary: AuxiliaryLoss, prompts: list[PromptInputs], leaves: list[Float[Tensor, "_ F"]]
    ) -> Float[Tensor, ""]:
        loss = auxiliary(self.policy, prompts, leaves) / self.trainer.world_size
        self.manual_backward(loss)
        return sum_over_ranks(loss.detach())

    def _learn_words(self, groups: list[RolloutGroup], leaves: list[Float[Tensor, "_ F"]]) -> Float[Tensor, ""]:
        """Backward of the demonstrations' loss, one packed row at a time; returns the global batch's loss."""
        weights = [self.demonstrations.weights(group.question, self.policy.tokenizer) for group in groups]
        total_weight = sum_over_ranks(torch.cat(weights).sum().to(self.policy.device))
        total_weight = torch.where(total_weight > 0, total_weight, 1.0)  # no token with a weight: a loss of zero
        views = [self._draw_view(group.prompt) for group in groups]
        self.policy.train()
        loss = torch.zeros((), device=self.policy.device)
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
        self.passes.meet()
        self.policy.eval()
        return sum_over_ranks(loss)

    def _draw_view(self, prompt: PromptInputs) -> View:
        if self.view_dropout is None:
            return Factual()
        return self.view_dropout.draw(torch.Generator().manual_seed(self._seed(prompt)))

    def _seed(self, prompt: PromptInputs) -> int:
        """The seed of everything random about a question in this step, whichever rank holds it."""
        return prompt.question.seed(self.seed, self.global_step)


def _unjudged(group: RolloutGroup) -> Experience:
    """A demonstration in the form that a failure's record takes."""
    nothing_G = torch.zeros(len(group.completions))
    return Experience(group, {}, nothing_G, nothing_G)
