"""One request to a served model: its choices, or why there are none. Only what concerns all requests is an error."""

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ktr.errors import EndpointError
from ktr.evaluation.asking.ask import Reply
from ktr.rewards.served_model import Failure, client_of, failure_of, text_of

if TYPE_CHECKING:
    import openai

OF_A_PROMPT = (
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "seed",
)  # fields that differ, or that a prompt decides
OF_ALL = ("invalid_api_key", "insufficient_quota", "unsupported_parameter", "unsupported_value", "unknown_parameter")
OF_ALL_IN_WORDS = re.compile(r"API key|Unknown name")  # Google's, which answers both with 400 and no code
OF_A_POLICY = ("content_filter", "content_policy_violation")
LONGEST_WORDS = 200


@dataclass(frozen=True)
class Refusal:
    """A choice that a model or its provider declines to make."""

    reason: str


@dataclass(frozen=True)
class Heard:
    """What came of a request: choices, or the kind of failure with the endpoint's words; and the tokens of its reply.

    ``completion_tokens`` holds those of reasoning. ``seconds`` are those of all its tries.
    """

    choices: tuple[Reply | Refusal, ...] = ()
    failure: Failure | None = None
    words: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class ChatClient:
    """Asks a model at ``base_url`` with the key of ``key_variable``, inside one event loop.

    Each try of a request has ``time_limit_s``, and all together ``TRIES_IN_FULL`` times that. The key is in no error.
    """

    TRIES_IN_FULL = 3
    FIRST_WAIT_S = 0.5

    def __init__(self, base_url: str, key_variable: str, time_limit_s: float, retries: int) -> None:
        self.base_url, self.key_variable = base_url, key_variable
        self.time_limit_s, self.retries = time_limit_s, retries
        self._client = client_of(base_url, key_variable, time_limit_s, retries)

    async def ask(self, fields: Mapping[str, Any]) -> Heard:
        """What comes of a request with these fields. Raises ``EndpointError`` where all others would be refused too."""
        import openai

        start = perf_counter()
        try:
            async with asyncio.timeout(self.TRIES_IN_FULL * self.time_limit_s):
                heard = await self._ask(fields)
        except openai.APIStatusError as error:
            heard = self._refused(error, fields)
        except (TimeoutError, openai.APIError) as error:
            heard = Heard(failure=failure_of(error))
        return replace(heard, seconds=perf_counter() - start)

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, fields: Mapping[str, Any]) -> Heard:
        """As ``ask``; what is no reply of this API is asked again, as the client does of other faults that may pass."""
        import openai

        prompt_tokens = completion_tokens = 0
        reply: Any = None
        create: Any = self._client.chat.completions.create
        further = {name: value for name, value in fields.items() if name not in ("model", "messages")}
        for attempt in range(self.retries + 1):
            try:
                reply = await create(model=fields["model"], messages=fields["messages"], extra_body=further)
            except (ValueError, openai.APIResponseValidationError):  # no JSON
                reply = None
            prompt, completion = _tokens(reply)
            prompt_tokens, completion_tokens = prompt_tokens + prompt, completion_tokens + completion
            if choices := _choices(reply):
                return Heard(choices, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
            if attempt < self.retries:
                await asyncio.sleep(min(self.FIRST_WAIT_S * 2**attempt, 8.0))
        words = self._line(getattr(reply, "error", None))  # some gateways answer 200 and tell a fault
        return Heard((), "no reply of this API", words, prompt_tokens, completion_tokens)

    def _refused(self, error: "openai.APIStatusError", fields: Mapping[str, Any]) -> Heard:
        words, failure = self._words(error), failure_of(error)
        sent_with_all = error.param in set(fields).difference(OF_A_PROMPT)
        if failure is None or error.code in OF_ALL or sent_with_all or OF_ALL_IN_WORDS.search(words):
            is_set = "" if os.environ.get(self.key_variable) else ", which is not set"
            key = f"its key is that of the environment variable {self.key_variable}{is_set}"
            raise EndpointError(self.base_url, f"it refuses requests ({error.status_code}: {words}); {key}") from None
        if error.code in OF_A_POLICY:
            return Heard((Refusal(words),))
        return Heard(failure=failure, words=words)

    def _words(self, error: "openai.APIStatusError") -> str:
        return self._line(error.body, error.message)

    def _line(self, body: Any, message: str = "") -> str:
        """What the endpoint says, in one short line without the key."""
        if isinstance(body, list) and body:  # Google's
            body = body[0]
        if isinstance(body, dict):
            body = body.get("error", body)
        told = body.get("message") if isinstance(body, dict) else None
        text = " ".join(str(told or message).split())
        if key := os.environ.get(self.key_variable):
            text = text.replace(key, "…")
        return text if len(text) <= LONGEST_WORDS else f"{text[: LONGEST_WORDS - 1]}…"


def _tokens(reply: Any) -> tuple[int, int]:
    """Tokens of prompt and completion. Google leaves those of reasoning out of the latter, but not of the total."""
    usage = getattr(reply, "usage", None)
    prompt, completion, total = (
        getattr(usage, name, None) or 0 for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    return prompt, max(completion, total - prompt)


def _choices(reply: Any) -> tuple[Reply | Refusal, ...]:
    """The choices of a reply; () where it has none, or is none."""
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not all(hasattr(getattr(each, "message", None), "content") for each in choices):
        return ()
    return tuple(map(_choice, choices))


def _choice(choice: Any) -> Reply | Refusal:
    reason = str(getattr(choice, "finish_reason", None))
    if told := getattr(choice.message, "refusal", None):
        return Refusal(" ".join(str(told).split())[:LONGEST_WORDS])
    if reason.startswith("content_filter"):
        return Refusal("its content filter")
    return Reply(text_of(choice.message.content), reason == "length")
