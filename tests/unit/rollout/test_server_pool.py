"""Laws of the pool: every question is answered in order, by whoever lives, and never in silence by less than asked."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ktr.errors import EngineError
from ktr.rollout.servers.client import ServerClient, ServerFault
from ktr.rollout.servers.pool import Question, ServerPool

DEADLINE_S = 90.0
Answer = Callable[[Any], tuple[int, Any]]  # what is asked → status, body; status 0 breaks the connection off


class FakeServer:
    """A server of the pool whose other end is a real HTTP server in this process; a start makes a new one."""

    def __init__(self, name: str, *answers: Answer, time_limit_s: float = DEADLINE_S):
        self.name, self.pid, self.time_limit_s = name, 1, time_limit_s
        self.answers = answers  # one for each life
        self.seen: list[Any] = []
        self.admitted: list[int] = []
        self.num_starts = 0
        self.refuses_to_start = ""
        self.version = 0
        self.http: ThreadingHTTPServer | None = None
        self.connections: list[socket.socket] = []
        self.closed = threading.Event()

    def start(self) -> None:
        if self.refuses_to_start:
            raise EngineError(self.name, self.refuses_to_start, "no remedy")
        answer = self.answers[min(self.num_starts, len(self.answers) - 1)]
        self.num_starts += 1
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["number"]
                server.seen.append(asked)
                status, body = answer(asked)
                if status == 0:
                    self.connection.close()
                    return
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def get_request(self) -> Any:
                connection, address = super().get_request()
                server.connections.append(connection)
                return connection, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that gave up is no news."""

        self.http = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        address = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.client = ServerClient(self.name, address, "secret", self.time_limit_s, "start it")

    def admit(self) -> None:
        self.admitted.append(self.version)

    def ask(self, content: Any) -> Any:
        answer = self.client.post("/ask", {"number": content})
        if answer == "incomplete":
            raise ServerFault("7 of 8 completions")
        return answer

    def stop(self) -> None:
        http, self.http = self.http, None
        if http is not None:
            http.shutdown()
            http.server_close()
            for connection in self.connections:  # as the end of a process does
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.closed.set()
        self.stop()


def right(asked: Any) -> tuple[int, Any]:
    return 200, asked * 10


class Once:
    """An answer for the first question, another for all later ones."""

    def __init__(self, first: Answer, later: Answer = right):
        self.first, self.later = first, later
        self.lock = threading.Lock()
        self.used = False

    def __call__(self, asked: Any) -> tuple[int, Any]:
        with self.lock:
            answer, self.used = (self.later if self.used else self.first), True
        return answer(asked)


@pytest.fixture
def pool_of() -> Iterator[Callable[..., ServerPool]]:
    pools: list[ServerPool] = []

    def make(*servers: FakeServer, max_restarts: int = 1) -> ServerPool:
        pools.append(ServerPool(servers, max_restarts))
        pools[-1].start()
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def ask(pool: ServerPool, count: int, max_running: int = 2, first: int = 1) -> list[Any]:
    """``count`` questions of one token each but for the ``first``."""
    questions = [Question(i, first if i == 0 else 1) for i in range(count)]
    return pool.ask(questions, max_running, lambda *_: None)


def test_answers_come_in_the_order_of_the_questions_whoever_is_done_first(pool_of):
    released = threading.Event()

    def late_first(asked: Any) -> tuple[int, Any]:
        if asked == 0:
            assert released.wait(DEADLINE_S)
        if asked == 5:
            released.set()
        return right(asked)

    pool = pool_of(FakeServer("a", late_first), FakeServer("b", late_first))
    assert ask(pool, 6) == [0, 10, 20, 30, 40, 50]
    assert pool.incidents == []


def test_the_next_question_goes_to_the_server_with_least_tokens_to_do(pool_of):
    """One long question occupies a server; all short ones go to the other."""
    released = threading.Event()

    def answer(asked: Any) -> tuple[int, Any]:
        if asked == 0:
            assert released.wait(DEADLINE_S)
        if asked == 4:
            released.set()
        return right(asked)

    a, b = FakeServer("a", answer), FakeServer("b", answer)
    ask(pool_of(a, b), 5, max_running=4, first=1000)
    assert a.seen == [0] and sorted(b.seen) == [1, 2, 3, 4]


def test_no_more_than_the_bound_are_on_their_way_to_a_server(pool_of):
    lock, gate = threading.Lock(), threading.Barrier(2)
    running = peak = 0

    def answer(asked: Any) -> tuple[int, Any]:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        gate.wait(DEADLINE_S)  # two at a time: passes only if the bound is used, too
        with lock:
            running -= 1
        return right(asked)

    ask(pool_of(FakeServer("a", answer)), 6, max_running=2)
    assert peak == 2


def broken_off(asked: Any) -> tuple[int, Any]:
    return 0, None


def fails(asked: Any) -> tuple[int, Any]:
    return 500, {"error": {"message": "EngineDeadError"}}


def unavailable(asked: Any) -> tuple[int, Any]:
    return 503, "not now"


def incomplete(asked: Any) -> tuple[int, Any]:
    return 200, "incomplete"


def hangs(asked: Any) -> tuple[int, Any]:
    threading.Event().wait(DEADLINE_S)
    return right(asked)


FAULTS = {
    broken_off: "connection broke",
    fails: "EngineDeadError",
    unavailable: "503",
    incomplete: "7 of 8",
    hangs: "no answer to /ask within 0.3 s",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_server_is_given_up_and_its_questions_are_answered_elsewhere(pool_of, caplog, fault):
    limit_s = 0.3 if fault is hangs else DEADLINE_S  # a machine with other work may be slow to give any other fault
    a, b = FakeServer("a", Once(fault), time_limit_s=limit_s), FakeServer("b", right)
    pool = pool_of(a, b, max_restarts=0)
    assert ask(pool, 8) == [10 * i for i in range(8)]
    incident = pool.incidents[0]
    assert incident["server"] == "a" and FAULTS[fault] in incident["what"] and "asked again" in incident["remedy"]
    assert json.dumps(pool.incidents)
    assert "rollout server a (pid 1) is given up" in caplog.text


def test_a_dead_server_is_restarted_and_admitted_before_it_is_asked_again(pool_of):
    a = FakeServer("a", Once(broken_off), right)
    pool = pool_of(a)
    a.version = 7
    assert ask(pool, 4) == [0, 10, 20, 30]  # nobody else lives: the pool waits for the restart
    assert a.num_starts == 2 and a.admitted == [7, 7]


def test_a_server_given_by_address_is_started_again_once_it_is_done_with_what_it_had(pool_of):
    """It outlives its stop: a push would meet what it still answers, and what of that fails late would count again."""
    order: list[str] = []
    arrived, released = threading.Event(), threading.Event()

    class Given(FakeServer):
        def start(self) -> None:
            if self.num_starts == 0:
                super().start()
            else:
                order.append("started again")

        def stop(self) -> None:
            """It is not ours to end."""

        def close(self) -> None:
            super().stop()

    def fails_beside_another(asked: Any) -> tuple[int, Any]:
        assert arrived.wait(DEADLINE_S)
        return fails(asked)

    def slow(asked: Any) -> tuple[int, Any]:
        arrived.set()
        assert released.wait(DEADLINE_S)
        order.append("done")
        return right(asked)

    of_question = [Once(fails_beside_another), Once(slow)]
    pool = pool_of(Given("a", lambda asked: of_question[asked](asked)))
    questions = [Question(i, 1) for i in range(2)]
    answers = pool.ask(questions, 2, lambda _answered, _newest, _running, waiting: waiting == 2 and released.set())
    assert answers == [0, 10] and order == ["done", "started again"] and len(pool.incidents) == 1


def test_the_second_fault_of_one_question_stops(pool_of):
    pool = pool_of(FakeServer("a", fails), FakeServer("b", fails))
    with pytest.raises(EngineError, match=r"second fault of one question.*can be resumed"):
        ask(pool, 1)
    assert len(pool.incidents) == 2


def test_questions_that_the_fault_is_not_about_lose_nothing(pool_of):
    """Others wait at a server when one question makes it fail, and again when another does: all are answered."""

    def life_that_fails_at(culprit: int) -> Answer:
        arrived = threading.Semaphore(0)

        def answer(asked: Any) -> tuple[int, Any]:
            arrived.release()
            if asked != culprit:
                return hangs(asked)
            for _ in range(4):  # once all are here
                assert arrived.acquire(timeout=DEADLINE_S)
            return fails(asked)

        return answer

    pool = pool_of(FakeServer("a", life_that_fails_at(0), life_that_fails_at(3), right), max_restarts=3)
    assert ask(pool, 4, max_running=4) == [0, 10, 20, 30]
    assert len(pool.incidents) == 2


def test_a_server_that_cannot_be_reached_costs_its_question_nothing(pool_of):
    a, b = FakeServer("a", right), FakeServer("b", right)
    pool = pool_of(a, b, max_restarts=0)
    pool.admit()
    a.stop()
    questions = [Question(i, 1) for i in range(4)]
    assert pool.ask(questions, 2, lambda *_: None) == [0, 10, 20, 30]
    assert [question.num_faults for question in questions] == [0, 0, 0, 0]
    assert "cannot be reached" in pool.incidents[0]["what"]


def test_a_request_that_is_refused_stops_at_once_with_the_servers_words(pool_of):
    a = FakeServer("a", lambda asked: (400, {"error": {"message": "n must be at most 4"}}))
    pool = pool_of(a)
    with pytest.raises(EngineError, match=r"a: HTTP 400 from /ask: n must be at most 4"):
        ask(pool, 1)
    assert a.seen == [0] and pool.incidents == []


def test_when_every_restart_is_used_up_the_run_stops_and_says_why(pool_of):
    a = FakeServer("a", Once(broken_off))
    pool = pool_of(a, max_restarts=2)
    a.refuses_to_start = "no memory"
    with pytest.raises(EngineError, match=r"none is left.*gone after 2 restarts"):
        ask(pool, 3)
    assert [incident for incident in pool.incidents if "no memory" in incident["what"]]


def test_a_server_that_does_not_start_at_first_stops_the_run():
    a, b = FakeServer("a", right), FakeServer("b", right)
    b.refuses_to_start = "head size 16"
    pool = ServerPool([a, b], max_restarts=3)
    with pytest.raises(EngineError, match="b: head size 16"):
        pool.start()
    pool.close()
    assert a.closed.is_set() and b.closed.is_set()


def test_a_push_reaches_every_server_that_lives(pool_of):
    a, b = FakeServer("a", right), FakeServer("b", right)
    pool = pool_of(a, b)
    for version in (1, 2):
        a.version = b.version = version
        pool.admit()
    ask(pool, 2)
    assert a.admitted == b.admitted == [1, 2]


def test_progress_is_told_each_answer_once_and_what_is_left(pool_of):
    pool, told = pool_of(FakeServer("a", right)), []
    pool.ask([Question(i, 1) for i in range(3)], 1, lambda *counts: told.append(counts))
    assert [answer for _, answer, _, _ in told if answer is not None] == [0, 10, 20]
    assert told[-1][0] == 3 and told[-1][2:] == (0, 0)


def test_the_key_goes_with_every_request_and_no_proxy_is_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        client = ServerClient("a", f"http://127.0.0.1:{http.server_address[1]}", "secret", 5.0, "start it")
        assert client.is_healthy() and client.get("/weight_info") is None
        http.shutdown()
    assert seen == ["Bearer secret", "Bearer secret"]
    assert not client.is_healthy()


def test_a_silent_node_is_looked_for_and_one_that_is_slow_to_read_is_not_taken_for_it():
    """The kernel ends a connection whose data nobody read for as long as TCP_USER_TIMEOUT, if that is set."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        client = ServerClient("a", f"http://127.0.0.1:{server.getsockname()[1]}", None, DEADLINE_S, "start it")
        with client._http.stream("GET", "/health") as response:
            own_end: socket.socket = response.extensions["network_stream"].get_extra_info("socket")
            looks = own_end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            waits_ms = own_end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        client.close()
    assert looks == 1 and waits_ms == 0
