"""A completion that is given, in place of one that the policy samples."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ktr.errors import InputError
from ktr.types import Completion, PromptInputs, RolloutGroup


@dataclass(frozen=True)
class GivenCompletion:
    """A text as the policy would have written it: its tokens, and EOS."""

    text: str
    token_ids_T: Int[Tensor, " T"]

    @classmethod
    def of(cls, text: str, tokenizer: Any) -> "GivenCompletion":
        """Raises InputError where the text holds what only a tokenizer may write: one of its special tokens."""
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        if special := next((token for token in (*tokenizer.all_special_tokens, *added) if token in text), None):
            raise InputError(f"completion holds the special token {special}, which no text may: leave it out")
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        return cls(text, torch.tensor(ids))

    def group(self, prompt: PromptInputs, context_tokens: int) -> RolloutGroup:
        """The prompt with this completion as the only one. Raises InputError where both are longer than the context."""
        num_tokens = len(self.token_ids_T)
        if prompt.num_tokens + num_tokens > context_tokens:
            raise InputError(
                f"completion has {num_tokens} tokens and the prompt of {prompt.question.id} {prompt.num_tokens}: the "
                f"model's context is {context_tokens}; shorten the completion, or lower video.num_frames or "
                "video.max_pixels"
            )
        completion = Completion(self.token_ids_T, torch.zeros(num_tokens), self.text, "stop", 0)
        return RolloutGroup(prompt, (completion,))
