"""Questions spread over servers by load; a dead server's questions are asked elsewhere while it is restarted.

    waiting ──► the living server with least tokens to do ──► answer
       ▲                      │ fault: dead at once, logged, killed and restarted in the background
       └──────────────────────┘   (a question is asked twice; its second fault stops the run)

A server that has started is admitted, that is given the current weights, by the thread that asks, never behind it.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from ktr.errors import EngineError
from ktr.rollout.servers.client import ServerFault

log = logging.getLogger(__name__)
RESUME = "the run can be resumed: start it again with the same name"


@dataclass(eq=False)
class Question:
    """``content`` is what a server is asked; ``num_tokens`` at most are to be computed for it."""

    content: Any
    num_tokens: int
    num_faults: int = 0


@runtime_checkable
class Server(Protocol):
    """One server, as the pool sees it. Its methods block."""

    name: str
    pid: int | None

    def start(self) -> None:
        """Start it and wait until it answers. Raises EngineError."""
        ...

    def admit(self) -> None:
        """Bring it up to the current weights. Raises ServerFault, or EngineError where no retry could help."""
        ...

    def ask(self, content: Any) -> Any:
        """The answer to one question. Raises ServerFault or EngineError."""
        ...

    def stop(self) -> None:
        """End it and all that belongs to it. May be called twice."""
        ...

    def close(self) -> None:
        """Stop it for good: a start that is going on fails, a later one too."""
        ...


@dataclass(eq=False)
class _Member:
    server: Server
    state: Literal["starting", "started", "up", "gone"] = "starting"
    asked: dict[Question, threading.Thread] = field(default_factory=dict)  # on their way, each with who waits for it
    num_restarts: int = 0

    @property
    def num_tokens(self) -> int:
        return sum(question.num_tokens for question in self.asked)


@dataclass
class _Event:
    """The outcome of one question; or of a start, with no question."""

    member: _Member
    question: Question | None = None
    answer: Any = None
    error: Exception | None = None


class ServerPool:
    """All servers of one rank. ``start`` first; ``ask`` and ``admit`` from one thread at a time; ``close`` at the end.

    A server is restarted ``max_restarts`` times at most. ``incidents`` tells what went wrong, as plain values.
    """

    def __init__(self, servers: Sequence[Server], max_restarts: int):
        self.incidents: list[dict[str, Any]] = []
        self.max_restarts = max_restarts
        self._members = [_Member(server) for server in servers]
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._closed = False

    def start(self) -> None:
        """Start all servers side by side. Raises the EngineError of the first that does not start."""
        for member in self._members:
            _in_background(self._start, member)
        for _ in self._members:
            event = self._events.get()
            if event.error is not None:
                raise event.error
            event.member.state = "started"

    def admit(self) -> None:
        """Bring every server that runs up to the current weights; those that start follow when they are asked."""
        self._note_starts()
        for member in self._members:
            if member.state in ("started", "up"):
                self._admit(member)

    def ask(
        self,
        questions: Sequence[Question],
        max_running: int,
        progress: Callable[[int, Any, int, int], None],
    ) -> list[Any]:
        """The answers, in order. At most ``max_running`` questions are on their way to one server.

        ``progress`` is told the number of answers, the newest (None if there is none new), and how many questions are
        on their way and waiting, at each answer and at least once a second.
        """
        waiting = deque(questions)
        answers: dict[Question, Any] = {}
        for member in self._members:
            member.asked.clear()
        while len(answers) < len(questions):
            for member in self._members:
                if member.state == "started":
                    self._admit(member)
            self._send(waiting, max_running)
            answer = None
            try:
                event = self._events.get(timeout=1.0)
            except queue.Empty:
                event = None
            if event is not None and event.question is None:
                self._note_start(event)
            elif event is not None and event.question in event.member.asked:
                if isinstance(event.error, ServerFault):
                    waiting.extendleft(self._lost(event.member, event.error, event.question))
                elif event.error is not None:
                    raise event.error
                else:
                    answer = answers[event.question] = event.answer
                    del event.member.asked[event.question]
            self._check_alive()
            num_running = sum(len(member.asked) for member in self._members)
            progress(len(answers), answer, num_running, len(waiting))
        return [answers[question] for question in questions]

    def close(self) -> None:
        """Stop all servers, side by side, and wait for it. May be called twice."""
        self._closed = True
        stopping = [_in_background(member.server.close) for member in self._members]
        for thread in stopping:
            thread.join()
        for member in self._members:
            member.state = "gone"

    def _send(self, waiting: deque[Question], max_running: int) -> None:
        while waiting:
            ready = [m for m in self._members if m.state == "up" and len(m.asked) < max_running]
            if not ready:
                return
            member, question = min(ready, key=lambda m: m.num_tokens), waiting.popleft()
            member.asked[question] = _in_background(self._ask, member, question)

    def _ask(self, member: _Member, question: Question) -> None:
        try:
            self._events.put(_Event(member, question, answer=member.server.ask(question.content)))
        except Exception as error:  # raised, or made up for, by the thread that waits for the answer
            self._events.put(_Event(member, question, error=error))

    def _admit(self, member: _Member) -> None:
        try:
            member.server.admit()
            member.state = "up"
        except ServerFault as fault:
            self._lost(member, fault, None)

    def _lost(self, member: _Member, fault: ServerFault, question: Question | None) -> list[Question]:
        """Mark a server as dead, restart it, and return what is to be asked again."""
        asked, member.asked = member.asked, {}
        again = list(asked)
        member.state = "starting"
        blamed = again if fault.blames == "all" else [question] if fault.blames == "request" and question else []
        server, what = member.server, f"{fault}"
        log.warning(
            "rollout server %s (pid %s) is given up: %s; questions asked again: %d",
            *(server.name, server.pid, what, len(again)),
        )
        self._record(server, what, f"{len(again)} questions asked again, server restarted")
        _in_background(self._restart, member, asked.values())
        for other in blamed:
            other.num_faults += 1
            if other.num_faults > 1:
                raise EngineError(server.name, f"the second fault of one question, {what}", RESUME)
        return again

    def _start(self, member: _Member) -> None:
        try:
            member.server.start()
            self._events.put(_Event(member))
        except Exception as error:  # raised by the thread that waits for the start
            self._events.put(_Event(member, error=error))

    def _restart(self, member: _Member, waiting: Iterable[threading.Thread]) -> None:
        member.server.stop()
        for thread in waiting:  # a server that outlives its stop would be pushed to while it answers, and fail late
            thread.join()
        while not self._closed and member.num_restarts < self.max_restarts:
            member.num_restarts += 1
            try:
                member.server.start()
            except Exception as error:  # whatever it is, it is recorded, and the last one ends the server
                log.warning("rollout server %s did not restart: %s", member.server.name, error)
                self._record(member.server, f"did not restart: {error}", "tried again")
                member.server.stop()
            else:
                self._events.put(_Event(member))
                return
        reason = EngineError(member.server.name, f"it is gone after {member.num_restarts} restarts", RESUME)
        self._events.put(_Event(member, error=reason))

    def _note_starts(self) -> None:
        """Outside ``ask``: the starts that came to an end; answers to questions that nobody waits for are dropped."""
        while not self._events.empty():
            event = self._events.get()
            if event.question is None:
                self._note_start(event)

    def _note_start(self, event: _Event) -> None:
        if event.error is None:
            event.member.state = "started"
            return
        event.member.state = "gone"
        if not self._closed:
            log.warning("%s", event.error)
            self._record(event.member.server, str(event.error), "the others go on")

    def _check_alive(self) -> None:
        if all(member.state == "gone" for member in self._members):
            reason = self.incidents[-1]["what"] if self.incidents else "closed"
            raise EngineError("rollout servers", f"none is left: {reason}", RESUME)

    def _record(self, server: Server, what: str, remedy: str) -> None:
        self.incidents.append(
            {"time": time.time(), "server": server.name, "pid": server.pid, "what": what, "remedy": remedy}
        )


def _in_background(function: Callable[..., None], *arguments: Any) -> threading.Thread:
    # A daemon: the interpreter's end does not wait for a server's answer.
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread
