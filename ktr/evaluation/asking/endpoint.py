"""A served model is asked, by OpenAI's chat-completions API: that of a provider, or of ``vllm serve`` on a machine."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import ConfigError, EndpointError
from ktr.evaluation.asking.ask import Answered, Take
from ktr.evaluation.asking.chat import ChatClient
from ktr.evaluation.asking.flight import Flight
from ktr.evaluation.asking.frames_sent import FramesAs, MediaSender
from ktr.evaluation.asking.pace import Pace
from ktr.evaluation.asking.request import RequestForm
from ktr.evaluation.asking.spending import Spending, price_of
from ktr.rewards.served_model import require_openai

Answers = Generator[Answered, None, None]


class EndpointAnswers:
    """Asks ``model`` at ``base_url``, which ends in /v1, with ``max_concurrency`` requests in flight.

    The key is that of the environment variable ``key_variable``. Videos are decoded ahead in ``num_decoders`` threads,
    each with its own decoding process; sides of frames are multiples of ``size_factor``. They are sent as "images", or
    as one "video" in vLLM's own form, with their times; such a server is started with --trust-request-mm-kwargs.

    A try has ``time_limit_s``; what may pass is tried again, ``retries`` times at most, and is the item's failure then.
    Where ``FAILURES_IN_A_ROW`` items get nothing from the endpoint, or it refuses what all requests have in common, it
    ends with ``EndpointError``, and those items stay unasked. ``requests_per_minute`` counts no tries behind the first.

    ``spending_limit`` is in dollars, by ``prices``, a file, in place of our own; at it no more is asked, what is in
    flight still ends, and ``SpendingLimit`` is raised. A request has ``n_per_request`` of an ask's completions at most
    (None: all). ``token_limit_as``, ``send_temperature`` (with it top_p) and ``send_seed`` are for endpoints that
    refuse these fields, ``extra`` for further ones.
    """

    FAILURES_IN_A_ROW = 16

    def __init__(
        self,
        model: str,
        template: PromptTemplate,
        video: VideoSettings,
        base_url: str,
        key_variable: str = "OPENAI_API_KEY",
        frames_as: FramesAs = "images",
        size_factor: int = 28,
        max_concurrency: int = 64,
        requests_per_minute: float | None = None,
        retries: int = 8,
        time_limit_s: float = 300.0,
        spending_limit: float | None = None,
        prices: str | None = None,
        num_decoders: int = 2,
        n_per_request: int | None = None,
        token_limit_as: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        send_temperature: bool = True,
        send_seed: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        require_openai()
        numbers = {
            "size_factor": size_factor, "max_concurrency": max_concurrency, "num_decoders": num_decoders,
            "requests_per_minute": requests_per_minute, "time_limit_s": time_limit_s, "spending_limit": spending_limit,
            "n_per_request": n_per_request,
        }  # fmt: skip
        for key, value in numbers.items():
            if value is not None and value <= 0:
                raise ConfigError(f"endpoint.{key}={value}: give a number above 0")
        if retries < 0:
            raise ConfigError(f"endpoint.retries={retries}: give 0 or more")
        _check_address(base_url)
        price = price_of(model, prices)
        if spending_limit is not None and price is None:
            raise ConfigError(
                f"endpoint.spending_limit={spending_limit:g}: no price of {model} is known; give endpoint.prices=… "
                f'a file with {{"{model}": {{"input": <dollars per million tokens>, "output": …}}}}'
            )
        self.base_url, self.max_concurrency, self.num_decoders = base_url, max_concurrency, num_decoders
        self.form = RequestForm(
            model, template, token_limit_as, send_temperature, send_seed, n_per_request, dict(extra or {})
        )
        self.sender = MediaSender(VideoReader(video), size_factor, frames_as)
        self.spending = Spending(price, spending_limit, video.max_pixels, n_per_request)
        self.pace = Pace(requests_per_minute)
        self._connect = lambda: ChatClient(base_url, key_variable, time_limit_s, retries)
        self._going: Answers | None = None

    def answers(self, take: Take) -> Answers:
        self._going = self._answers(take)
        return self._going

    def close(self) -> None:
        """Give up what is in flight."""
        if self._going is not None:
            self._going.close()

    def _answers(self, take: Take) -> Answers:
        """Asks are taken and answers handed on in the caller's thread; what is between happens in others."""
        silent: list[Answered] = []  # handed on once it is known that the endpoint answers others
        connect, price = self._connect, self.spending.price
        with Flight(
            self.form, self.sender, connect, self.pace, price, self.max_concurrency, self.num_decoders
        ) as flight:
            while True:
                while flight.has_room and not self.spending.is_at_limit and (ask := take()) is not None:
                    self.spending.take(ask)
                    flight.start(ask)
                if flight.is_empty:
                    break
                ended = flight.next()
                self.spending.end(ended.answered)
                if ended.is_heard is False:
                    silent.append(ended.answered)
                    if len(silent) >= self.FAILURES_IN_A_ROW:
                        raise self._silence(silent)
                    continue
                if ended.is_heard:
                    yield from silent
                    silent.clear()
                yield ended.answered
        if silent and all(answered.reason == "unreachable" for answered in silent):
            raise self._silence(silent)
        yield from silent
        if self.spending.is_at_limit and take() is not None:
            raise self.spending.stop()

    def _silence(self, silent: Sequence[Answered]) -> EndpointError:
        reasons = ", ".join(dict.fromkeys(answered.reason for answered in silent))
        return EndpointError(self.base_url, f"{len(silent)} items in a row got no reply ({reasons})")


def _check_address(base_url: str) -> None:
    """Raise ConfigError where an address is none, or holds a secret: it is written down with the run."""
    address = urlsplit(base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigError(f"endpoint.base_url={base_url}: give http(s)://host/…/v1")
    if address.username or address.password or address.query:
        raise ConfigError(
            f"endpoint.base_url at {address.hostname} has a name or a query, and is written down with the run; give "
            "a key in the variable of endpoint.key_variable"
        )
