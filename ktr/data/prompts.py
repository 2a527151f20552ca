"""From a question to chat messages. All wording can be replaced from the configuration."""

from collections.abc import Mapping
from typing import Any

from ktr.data.row_media import MARKER
from ktr.errors import ConfigError
from ktr.types import PROBLEM_TYPES, VideoQuestion

INSTRUCTION = (
    "Work through this question step by step before you answer. Look closely at what is shown and at the order in "
    "which it happens, question your first impression, and go back over a step when something does not fit. Write this "
    "reasoning between <think> and </think>, then give only the final answer between <answer> and </answer>."
)
TYPE_SENTENCES: Mapping[str, str] = {
    "multiple choice": "The final answer is the letter of one option, for example <answer>A</answer>.",
    "numerical": "The final answer is one number, for example <answer>42</answer> or <answer>3.14</answer>.",
    "OCR": "The final answer is the text exactly as it can be read, for example <answer>Hello world</answer>.",
    "free-form": "The final answer is a short text, for example <answer>a red ball</answer>.",
    "regression": "The final answer is your best estimate as one number, for example <answer>42.7</answer>.",
}


class PromptTemplate:
    """Builds the chat messages of a question: media, problem, options, instruction and a sentence per type.

    Args:
        instruction: the paragraph that asks for reasoning and answer; empty for none.
        type_sentences: one sentence per problem type; None for our own, an empty mapping for none.
        system: the system message; None for none of our own (a chat template may still add its default).
    """

    def __init__(
        self,
        instruction: str = INSTRUCTION,
        type_sentences: Mapping[str, str] | None = None,
        system: str | None = None,
    ) -> None:
        self.instruction = instruction
        self.type_sentences = dict(TYPE_SENTENCES if type_sentences is None else type_sentences)
        self.system = system
        if unknown := set(self.type_sentences) - set(PROBLEM_TYPES):
            raise ConfigError(f"type_sentences: {sorted(unknown)} are no problem types; known: {PROBLEM_TYPES}")

    def messages(self, question: VideoQuestion) -> list[dict[str, Any]]:
        """Messages for a chat template. Media stand where the question's text has markers, or else before all text."""
        asked, rest = self._asked(question), self._rest(question)
        texts = MARKER.split(asked)[::2]
        if len(texts) == 1:
            texts = [""] * len(question.media) + texts
        texts[-1] += f"\n{rest}" if rest else ""
        media = [{"type": file.kind} for file in question.media]
        content = [{"type": "text", "text": texts[0]}]
        for medium, text in zip(media, texts[1:], strict=True):
            content += [medium, {"type": "text", "text": text}]
        content = [part for part in content if part.get("text") != ""]
        user = {"role": "user", "content": content}
        return [user] if self.system is None else [{"role": "system", "content": self.system}, user]

    def _asked(self, question: VideoQuestion) -> str:
        options = "\n".join(("Options:", *question.options)) if question.options else ""
        return "\n".join(filter(None, (question.problem, options)))

    def _rest(self, question: VideoQuestion) -> str:
        return "\n".join(filter(None, (self.instruction, self.type_sentences.get(question.problem_type, ""))))
