"""A reward from a model that is served elsewhere: a judge reads question, answer and completion, and names a score.

Whatever speaks OpenAI's API may judge: ``vllm serve`` on another card, or a provider. It is sent text alone, never the
media. All completions of a step are judged at once, ``max_concurrency`` at a time.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import ConfigError, JudgeError
from ktr.rewards.served_model import Failure, check_fields, client_of, failure_of, require_openai, text_of
from ktr.types import RolloutGroup

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

Unjudged = Failure | Literal["no score in the reply"]
FIELDS = ("problem", "options", "answer", "completion")
PROMPT = """\
Here is a question about a video, its right answer, and a student's reply. Say how right the reply's final answer is,
whatever its wording, from 0 (wrong) to 10 (right). Your last line is: Score: <number>

Question: {problem}
{options}
Right answer: {answer}

Reply: {completion}"""
PATTERN = r"(?i)score[^\w(]*(?:\([^)]*\))?\W*(\d+(?:\.\d+)?)"  # also behind a bracket: "Score (0-10): 7"

LONGEST_WORDS = 200


class ServedJudge:
    """Scores in [0, 1] of completions by ``model`` at ``base_url``, which ends in /v1.

    ``prompt`` holds some of {problem}, {options}, {answer}, {completion}; the first group of the last match of
    ``pattern`` in the reply is the score, ``scale`` the best one. The key is that of the environment variable
    ``key_variable``, if it is set. A judgement has ``time_limit_s`` with its ``retries``; the client waits longer from
    one to the next.

    A completion that got no judgement counts as the mean of its group's others, and so teaches nothing; how many, and
    why, is a warning. Raises ``JudgeError`` where they are more than ``max_failed_fraction`` of a batch, or where the
    judge refuses a request (a wrong key, a model that isn't served): all others would be refused as well.
    """

    name = "judge"

    def __init__(
        self,
        base_url: str,
        model: str,
        prompt: str = PROMPT,
        pattern: str = PATTERN,
        scale: float = 10.0,
        key_variable: str = "OPENAI_API_KEY",
        max_concurrency: int = 16,
        time_limit_s: float = 60.0,
        retries: int = 3,
        max_tokens: int = 512,
        temperature: float = 0.0,
        max_failed_fraction: float = 0.1,
    ) -> None:
        require_openai()
        check_fields("prompt of the judge", prompt, FIELDS)
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"pattern={pattern} of the judge: {error}") from error
        if self._pattern.groups < 1 or scale <= 0:
            raise ConfigError(f"pattern={pattern}, scale={scale}: the first group is the score, from 0 to the scale")
        if max_concurrency < 1 or time_limit_s <= 0:
            raise ConfigError(f"max_concurrency={max_concurrency}, time_limit_s={time_limit_s}: both are above 0")
        self.base_url, self.model, self.prompt, self.scale = base_url, model, prompt, scale
        self.key_variable, self.max_concurrency, self.time_limit_s = key_variable, max_concurrency, time_limit_s
        self.retries, self.max_tokens, self.temperature = retries, max_tokens, temperature
        self.max_failed_fraction = max_failed_fraction

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        return self.score_groups([group])[0]

    def score_groups(self, groups: Sequence[RolloutGroup]) -> list[Float[Tensor, " G"]]:
        """Scores of the completions of each group. Raises ``JudgeError``."""
        prompts = [self._prompt(group, completion.text) for group in groups for completion in group.completions]
        words: dict[str, str] = {}
        judged = asyncio.run(self._judge(prompts, words))
        failures = Counter(score for score in judged if isinstance(score, str))
        if failures:
            told = ", ".join(f"{count} × {kind}{words.get(kind, '')}" for kind, count in failures.most_common())
            if failures.total() > self.max_failed_fraction * len(judged):
                raise JudgeError(self.base_url, f"{failures.total()} of {len(judged)} completions unjudged: {told}")
            log.warning(
                "%d of %d completions count as their group's mean, unjudged: %s", failures.total(), len(judged), told
            )
        scores_N = torch.tensor([float("nan") if isinstance(score, str) else score for score in judged])
        of_groups = scores_N.split([len(group.completions) for group in groups])
        return [scores_G.nan_to_num(float(scores_G.nanmean().nan_to_num(0.0))) for scores_G in of_groups]

    def _prompt(self, group: RolloutGroup, text: str) -> str:
        question = group.question
        options = "\n".join(question.options)
        return self.prompt.format(problem=question.problem, options=options, answer=question.answer, completion=text)

    async def _judge(self, prompts: Sequence[str], words: dict[str, str]) -> list[float | Unjudged]:
        async with client_of(self.base_url, self.key_variable, self.time_limit_s, self.retries) as client:
            free = asyncio.Semaphore(self.max_concurrency)

            async def judge(prompt: str) -> float | Unjudged:
                async with free:
                    return await self._judge_one(client, prompt, words)

            return await asyncio.gather(*map(judge, prompts))

    async def _judge_one(self, client: "AsyncOpenAI", prompt: str, words: dict[str, str]) -> float | Unjudged:
        """``words`` gets what the judge says of the first failure of a kind."""
        import openai

        try:
            async with asyncio.timeout(self.time_limit_s):
                reply = await client.chat.completions.create(
                    model=self.model,
                    messages=[{"role": "user", "content": prompt}],
                    max_tokens=self.max_tokens,
                    temperature=self.temperature,
                )
        except (TimeoutError, openai.APIError, ValueError) as error:
            if (failure := failure_of(error)) is None:
                raise JudgeError(self.base_url, f"it refuses requests: {error}") from error
            if isinstance(error, openai.APIStatusError):
                words.setdefault(failure, f" ({' '.join(str(error).split())[:LONGEST_WORDS]})")
            return failure
        return self._score_of(reply)

    def _score_of(self, reply: object) -> float | Unjudged:
        choices = getattr(reply, "choices", None) or [None]
        found = self._pattern.findall(text_of(getattr(getattr(choices[0], "message", None), "content", None)))
        last = found[-1] if found else ""
        try:
            score = float(last[0] if isinstance(last, tuple) else last)
        except ValueError:
            return "no score in the reply"
        return min(max(score / self.scale, 0.0), 1.0) if score == score else "no score in the reply"
