"""HTTP to one rollout server: answers, its own error messages, and the faults that another server can make up for."""

import logging
import socket
import time
from collections.abc import Mapping
from typing import Any

import httpx

from ktr.errors import EngineError

logging.getLogger("httpx").setLevel(logging.WARNING)  # else it writes a line for each request
_SILENT_S, _BETWEEN_S, _NUM_PROBES = 15, 5, 3
# A node that is gone closes no connection: after half a minute without a sign of it the request breaks off. One that is
# slow to read megabytes of pixels is not gone, and to TCP_USER_TIMEOUT it would be.
_NOTICE_A_LOST_NODE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _BETWEEN_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _NUM_PROBES),
]


class ServerFault(Exception):
    """A server that is gone, hangs, or gives no proper answer. The same request may be sent to another one.

    ``blames`` says whose second fault it may be: ``nobody`` (the request never arrived), this ``request``, or ``all``
    that were running (the server died under them). ``status`` is that of an HTTP answer, if there was one.
    """

    def __init__(self, reason: str, blames: str = "request", status: int | None = None):
        super().__init__(reason)
        self.blames, self.status = blames, status


class ServerClient:
    """JSON requests to the server at ``address`` (http://host:port), with its key if it has one.

    Raises ``ServerFault`` where the server cannot be reached, breaks off, needs more than ``time_limit_s`` or fails
    (5xx), and ``EngineError`` with the server's words and the ``remedy`` where it refuses the request (4xx).
    """

    def __init__(self, name: str, address: str, key: str | None, time_limit_s: float, remedy: str):
        self.name, self.address, self.time_limit_s, self.remedy = name, address, time_limit_s, remedy
        self._http = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(time_limit_s, connect=min(10.0, time_limit_s)),
            transport=httpx.HTTPTransport(
                # Each request has its own connection: one that was kept alive may have been closed by the server
                # meanwhile, and that would look like a server that broke off.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                socket_options=_NOTICE_A_LOST_NODE,
            ),
            trust_env=False,  # a proxy is for the internet
        )

    def get(self, path: str) -> Any:
        return self._request("GET", path)

    def post(self, path: str, body: Mapping[str, Any] | None = None, is_text: bool = False) -> Any:
        """The answer's JSON; of a route that answers in words (``is_text``), the words."""
        return self._request("POST", path, is_text, json=body)

    def is_healthy(self) -> bool:
        """Whether it answers requests; no answer at all is no error, a refused key is: waiting would not help."""
        try:
            response = self._http.get("/health", timeout=min(5.0, self.time_limit_s))
        except httpx.TransportError:
            return False
        if response.status_code in (401, 403):
            raise EngineError(self.name, _said("/health", response), self.remedy)
        return response.is_success

    def close(self) -> None:
        self._http.close()

    def _request(self, method: str, path: str, is_text: bool = False, **content: Any) -> Any:
        started = time.monotonic()
        try:
            response = self._http.request(method, path, **content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerFault(f"it cannot be reached ({error})", blames="nobody") from error
        except httpx.TimeoutException as error:
            if (waited := time.monotonic() - started) < self.time_limit_s:  # the kernel's word, not ours
                raise ServerFault(f"no sign of its node, {waited:.0f} s after the request", blames="all") from error
            raise ServerFault(f"no answer to {path} within {self.time_limit_s:g} s") from error
        except httpx.TransportError as error:
            raise ServerFault(f"the connection broke ({error or type(error).__name__})", blames="all") from error
        if response.is_server_error:
            raise ServerFault(_said(path, response), status=response.status_code)
        if not response.is_success:
            raise EngineError(self.name, _said(path, response), self.remedy)
        if is_text or not response.content:
            return response.text or None
        try:
            return response.json()
        except ValueError as error:
            raise ServerFault(f"an answer to {path} that is not JSON") from error


def _said(path: str, response: httpx.Response) -> str:
    """The status with the message of the error body, as OpenAI's API words it, or with the body itself."""
    try:
        message = response.json()
    except ValueError:
        message = response.text or response.reason_phrase
    for key in ("error", "message", "detail"):
        message = message.get(key, message) if isinstance(message, dict) else message
    return f"HTTP {response.status_code} from {path}: {str(message)[:400]}"
