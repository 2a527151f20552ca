"""What a served model is asked: the messages of a policy's prompt, with its media as data, and how to sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ktr.data.prompts import PromptTemplate
from ktr.evaluation.asking.ask import Ask
from ktr.evaluation.asking.frames_sent import MediaSender

LARGEST_SEED = 2**31 - 1  # that every endpoint reads

Fields = Mapping[str, Any]


class MixedRates(ValueError):
    """Videos of one question whose frames are sampled at different rates, of which a request tells only one."""


@dataclass(frozen=True)
class SentPrompt:
    """The fields of a request that hold a question, and how many frames it shows of each medium."""

    fields: Fields
    num_frames: tuple[int, ...]


@dataclass(frozen=True)
class RequestForm:
    """Which fields an endpoint is sent, and under which names."""

    model: str
    template: PromptTemplate
    token_limit_as: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    send_temperature: bool = True
    send_seed: bool = True
    n_per_request: int | None = None
    extra: Fields = field(default_factory=dict)

    def prompt(self, ask: Ask, sender: MediaSender) -> SentPrompt:
        """An ask's messages. Raises a ``MediaError`` where a file cannot be shown, and ``MixedRates``."""
        sent = [sender.send(file) for file in ask.question.media]
        left = iter(sent)
        messages = self.template.messages(ask.question)
        for message in messages:
            if isinstance(message["content"], list):
                message["content"] = [
                    shown
                    for part in message["content"]
                    for shown in ([part] if part["type"] == "text" else next(left).parts)
                ]
        sampled = [medium.sampled for medium in sent if medium.sampled is not None]
        if any(other != sampled[0] for other in sampled):
            raise MixedRates(
                "its videos are sampled at different rates, of which vLLM is told one; set endpoint.frames_as=images"
            )
        of_videos = {"media_io_kwargs": {"video": dict(sampled[0])}} if sampled else {}
        return SentPrompt({"messages": messages, **of_videos}, tuple(medium.num_frames for medium in sent))

    def requests(self, ask: Ask, prompt: SentPrompt) -> list[Fields]:
        """The requests that have all of an ask's completions. Each completion has a seed of its own."""
        sampling = ask.sampling
        per_request = self.n_per_request or sampling.num_completions
        fields: dict[str, Any] = {"model": self.model, **prompt.fields, self.token_limit_as: sampling.max_tokens}
        if self.send_temperature:
            fields |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        requests: list[Fields] = []
        for first in range(0, sampling.num_completions, per_request):
            n = min(per_request, sampling.num_completions - first)
            seed = {"seed": (ask.seed + first) % LARGEST_SEED} if self.send_seed else {}
            requests.append({**fields, **({"n": n} if n > 1 else {}), **seed, **self.extra})
        return requests
