"""Changes to what the policy is shown, to test what its answers rest on: the video, its order, the reasoning."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import MaskedVideo, ShuffledFrames, WhichMedia
from ktr.policy.family import Policy
from ktr.scoring.shuffled_prompt import shuffled_prompt
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


@dataclass(frozen=True)
class BlackVideo(NoIntervention):
    """All frames of the media that ``media`` names black: what remains is what the rest gives away."""

    media: WhichMedia = "all"

    def prompt(self, policy: Policy, prompt: PromptInputs, seed: int) -> PromptInputs:
        black: Float[Tensor, " C"] = policy.black_patch_C.to(prompt.pixels_NC)
        hidden = MaskedVideo("blank_frames", media=self.media).changes(prompt.media)
        patches = zip(prompt.by_medium(prompt.pixels_NC), hidden, strict=True)
        return replace(prompt, pixels_NC=torch.cat([black.expand_as(p) if hide else p for p, hide in patches]))


@dataclass(frozen=True)
class ShuffledPatches(NoIntervention):
    """Temporal patches of the videos that ``media`` names in another order: what is seen stays, when does not."""

    media: WhichMedia = "all"

    def prompt(self, policy: Policy, prompt: PromptInputs, seed: int) -> PromptInputs:
        return shuffled_prompt(prompt, ShuffledFrames(media=self.media), policy.temporal_patch_size, seed)


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
