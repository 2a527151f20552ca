"""A client of whatever speaks OpenAI's API, and why a request to it came to nothing, in a few words."""

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from ktr.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Failure = Literal["no reply in time", "unreachable", "busy", "server error", "refused", "no reply of this API"]
LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")  # the last two are what servers say they listen on


def require_openai() -> None:
    """Raise ``MissingExtra`` where the client's package is not installed."""
    if find_spec("openai") is None:
        raise MissingExtra("openai", "api")


def check_fields(name: str, prompt: str, fields: Sequence[str]) -> None:
    """Raise ``ConfigError`` where a prompt holds other braces than those around ``fields``, and doubled ones."""
    try:
        used = {field for _, field, _, _ in Formatter().parse(prompt) if field is not None}
    except ValueError as error:
        raise ConfigError(f"{name}: {error}; a brace of the text itself is doubled, {{{{ or }}}}") from None
    if unknown := used.difference(fields):
        raise ConfigError(f"{name}: {sorted(unknown)} are no fields; there are {', '.join(fields)}")


def client_of(base_url: str, key_variable: str, time_limit_s: float, retries: int) -> "AsyncOpenAI":
    """A client whose key is that of the environment variable ``key_variable``, if it is set.

    Each try of a request has ``time_limit_s``, and faults that may pass are tried again, later and later.
    """
    import openai

    for name in ("openai", "httpx", "httpx2"):  # a line for each request and each try; one of the last two is in use
        logging.getLogger(name).setLevel(logging.WARNING)
    key = os.environ.get(key_variable) or "none"
    # A proxy is for the internet, and not for this machine.
    http = openai.DefaultAsyncHttpxClient(trust_env=False) if urlsplit(base_url).hostname in LOOPBACK else None
    return openai.AsyncOpenAI(
        base_url=base_url, api_key=key, timeout=time_limit_s, max_retries=retries, http_client=http
    )


def failure_of(error: Exception) -> Failure | None:
    """The kind of failure of an error of the client's; None where any other request would fail as well.

    "refused" is about the one prompt, such as one that is too long.
    """
    import openai

    match error:
        case TimeoutError() | openai.APITimeoutError():
            return "no reply in time"
        case openai.APIConnectionError():
            return "unreachable"
        case openai.RateLimitError():
            return "busy"
        case openai.APIStatusError():
            if error.status_code >= 500 or error.status_code in (408, 409):
                return "server error"
            return "refused" if error.status_code in (400, 413, 422) else None
    return "no reply of this API"


def text_of(content: Any) -> str:
    """A message's text, also where it comes in parts, of which those of the reasoning are none."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(str(part.get("text", "")) for part in parts)
    return content if isinstance(content, str) else ""
