"""Written answers as completions: the tokens to imitate, and how much each of them counts."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import DemonstrationTooLong, MalformedRow
from ktr.types import Completion, PromptInputs, RolloutGroup, VideoQuestion

ANSWER_ROLE = "answer"


class Demonstrations:
    """Turns a question's written reasoning and answer into a completion that ends with EOS.

    ``form`` is the completion's text around ``{reasoning}`` (empty where the row has none) and ``{answer}``.
    ``role_weights`` maps the role of a word to its weight in the loss, 1 where a role is not named. A row gives the
    roles of its reasoning's words, the think tags included, under the key ``process_roles``; the answer's role is
    "answer". Without ``role_weights`` every token counts alike and no row needs roles. Raises ``ValueError`` on a form
    with other braces, and on one whose tags are parts of words where words are weighed.
    """

    def __init__(
        self,
        form: str = "<think>{reasoning}</think>\n<answer>{answer}</answer>",
        role_weights: Mapping[str, float] | None = None,
    ):
        try:
            words = form.format(reasoning="", answer="").split()
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise ValueError(f"form={form!r}: write {{reasoning}} and {{answer}}, and no other braces") from error
        if role_weights and words.count("<answer>") != 1:
            raise ValueError(
                f"form={form!r}: role_weights are those of words; set its tags apart by spaces, as in "
                "'<think> {reasoning} </think> <answer> {answer} </answer>'"
            )
        self.form = form
        self.role_weights = dict(role_weights or {})

    def text(self, question: VideoQuestion) -> str:
        """What the policy should write."""
        return self.form.format(reasoning=question.reasoning or "", answer=question.answer)

    def check(self, prompt: PromptInputs, tokenizer: Any, max_positions: int) -> None:
        """Raises ``DemonstrationTooLong`` where the last token has no position, and what ``weights`` raises."""
        question, size = prompt.question, len(self.weights(prompt.question, tokenizer))
        before = max(prompt.num_tokens, int(prompt.positions_3P.max()) + 1)
        if before + size > max_positions:
            reason = f"its demonstration has {size} tokens, its prompt {before}; the model has room for {max_positions}"
            raise DemonstrationTooLong(question.source, question.id, reason)

    def group(self, prompt: PromptInputs, tokenizer: Any) -> RolloutGroup:
        """The prompt with its demonstration as the only completion."""
        text = self.text(prompt.question)
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        return RolloutGroup(prompt, (Completion(torch.tensor(ids), torch.zeros(len(ids)), text, "stop", 0),))

    def weights(self, question: VideoQuestion, tokenizer: Any) -> Float[Tensor, " T"]:
        """The weight of each token of the demonstration, EOS included: that of the word which it is a part of.

        Raises ``MalformedRow`` where the row's roles do not fit its words.
        """
        encoded = tokenizer(self.text(question), add_special_tokens=False, return_offsets_mapping=True)
        weights_T = torch.ones(len(encoded.input_ids) + 1)
        if self.role_weights:
            text, per_character = self.text(question), self._character_weights(question)
            for token, (start, end) in enumerate(encoded.offset_mapping):
                space = text[start:end].rstrip()  # of a byte-level tokenizer a word's first token begins with a space
                weights_T[token] = per_character[start + len(space) - len(space.lstrip())]
        return weights_T

    def _character_weights(self, question: VideoQuestion) -> list[float]:
        text, words = self.text(question), self.text(question).split()
        named = question.extra.get("process_roles", ())
        roles = [role for role in named if isinstance(role, str)] if isinstance(named, list | tuple) else []
        answer = words.index("<answer>") if "<answer>" in words else -1
        if len(roles) != answer:
            reason = (
                f"process_roles names {len(roles)} roles for {answer} words before <answer>: give one for each word, "
                "or train without role_weights"
            )
            raise MalformedRow(question.source, question.id, reason)
        roles += ["", *[ANSWER_ROLE] * (len(words) - answer - 2), ""]
        weights, position = [1.0] * len(text), 0
        for word, role in zip(words, roles, strict=True):
            position = text.index(word, position)
            weights[position : position + len(word)] = [self.role_weights.get(role, 1.0)] * len(word)
            position += len(word)
        return weights
