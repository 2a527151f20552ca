"""Changes to what the policy is shown, to test what its answers rest on: the video, its order, the reasoning."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.policy.family import Policy
from ktr.scoring.frame_orders import frame_order, order_generator
from ktr.types import Completion, PromptInputs, RolloutGroup


@runtime_checkable
class Intervention(Protocol):
    """A change of the prompt before generation, and what it means for the completion that is judged."""

    def prompt(self, policy: Policy, prompt: PromptInputs, seed: int) -> PromptInputs: ...

    def judged(self, group: RolloutGroup) -> RolloutGroup: ...


class NoIntervention:
    """The prompt as it is."""

    def prompt(self, policy: Policy, prompt: PromptInputs, seed: int) -> PromptInputs:
        return prompt

    def judged(self, group: RolloutGroup) -> RolloutGroup:
        return group


class BlackVideo(NoIntervention):
    """All frames black: what remains is what the question alone gives away."""

    def prompt(self, policy: Policy, prompt: PromptInputs, seed: int) -> PromptInputs:
        black: Float[Tensor, " C"] = policy.black_patch_C.to(prompt.pixels_NC)
        return replace(prompt, pixels_NC=black.expand_as(prompt.pixels_NC))


class ShuffledPatches(NoIntervention):
    """Temporal patches in another order: what is seen stays, when it is seen does not."""

    def prompt(self, policy: Policy, prompt: PromptInputs, seed: int) -> PromptInputs:
        order = frame_order("random", prompt.grid_thw[0], order_generator(seed, 0))
        pixels_TNC = prompt.pixels_NC.unflatten(0, (prompt.grid_thw[0], -1))
        return replace(prompt, pixels_NC=pixels_TNC[order].flatten(0, 1))


@dataclass(frozen=True)
class DirectAnswer:
    """The answer at once, without reasoning: ``prefix`` is written for the policy, which goes on from there."""

    prefix: str = "<think> </think> <answer>"

    def prompt(self, policy: Policy, prompt: PromptInputs, seed: int) -> PromptInputs:
        prefix = torch.tensor(policy.tokenizer.encode(self.prefix, add_special_tokens=False))
        positions = (torch.arange(len(prefix)) + int(prompt.positions_3P.max()) + 1).expand(3, -1)
        return replace(
            prompt,
            input_ids_P=torch.cat([prompt.input_ids_P, prefix]),
            positions_3P=torch.cat([prompt.positions_3P, positions], dim=1),
        )

    def judged(self, group: RolloutGroup) -> RolloutGroup:
        completions = tuple(self._with_prefix(completion) for completion in group.completions)
        return replace(group, completions=completions)

    def _with_prefix(self, completion: Completion) -> Completion:
        return replace(completion, text=f"{self.prefix} {completion.text}")
