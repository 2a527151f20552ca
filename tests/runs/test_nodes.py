"""Two nodes train one run; when the link between them is cut both end in time and say why, and one goes on alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ktr.record.step_table import read_columns
from ktr.training.checkpoint import checkpoints
from tests.small_run import ROOT, Train, finished
from tests.two_hosts import CARDS, cut_cable, on_host, two_hosts

LIMIT_S, GRACE_S = 20, 150  # the second to print, close and end, on a machine that has other work


hosts = pytest.fixture(two_hosts)
pytestmark = pytest.mark.xdist_group("hosts")  # which are there once


def start(host: str, node: int, arguments: list[str]) -> subprocess.Popen[str]:
    """One node's process, as a user starts it there."""
    environment = {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": CARDS[host],
        "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29500", "NODE_RANK": str(node),
    }  # fmt: skip
    return subprocess.Popen(
        [*on_host(host), sys.executable, "-m", "ktr.train", *arguments],
        cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_cut_link_ends_both_and_one_goes_on(
    hosts: list[str], small_run: list[str], start_training: Train, runs_folder: Path
):
    alone = [*small_run, "name=alone", "trainer.max_steps=3"]
    arguments = [*small_run, "name=nodes", "callbacks.model_checkpoint.every_n_steps=1"]
    on_two = ["trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_steps=400"]
    on_two += [f"trainer.strategy.time_limit_s={LIMIT_S}"]
    nodes = [start(host, node, [*arguments, *on_two]) for node, host in enumerate(hosts)]
    run_dir = runs_folder / "runs" / "nodes"
    while len(checkpoints(run_dir / "checkpoints")) < 2:
        assert all(node.poll() is None for node in nodes), [node.communicate()[0] for node in nodes]
        os.sched_yield()
    cut_cable()
    cut = time.monotonic()
    told = [node.communicate(timeout=LIMIT_S + GRACE_S)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [1, 1] and time.monotonic() - cut < LIMIT_S + GRACE_S
    for output in told:
        assert f"for trainer.strategy.time_limit_s={LIMIT_S} (" in output.splitlines()[-1], output

    steps = max(int(name) for name in read_columns(run_dir / "metrics.csv")["loss/total"][0]) + 2
    finished(start_training([*arguments, f"trainer.max_steps={steps}"]))
    losses = read_columns(run_dir / "metrics.csv")["loss/total"]
    assert losses[0] == [*range(1, steps + 1)]
    finished(start_training(alone))
    of_one = read_columns(runs_folder / "runs" / "alone" / "metrics.csv")
    of_two = read_columns(run_dir / "metrics.csv")
    for name in ("loss/total", "reward/total", "grad/norm/total"):
        if name in of_one:
            assert of_two[name][1][:2] == pytest.approx(of_one[name][1][:2], rel=1e-4, abs=1e-6), name


def test_a_node_that_nobody_joins_says_so_in_time(hosts: list[str], small_run: list[str]):
    arguments = [*small_run, "name=lonely", "trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2"]
    waiting = start(hosts[0], 0, [*arguments, f"trainer.strategy.start_limit_s={LIMIT_S}"])
    output, _ = waiting.communicate(timeout=LIMIT_S + GRACE_S)
    assert waiting.returncode == 1
    assert f"did not come within trainer.strategy.start_limit_s={LIMIT_S}, or" in output.splitlines()[-1], output


CLIENT = """
import sys, time
from ktr.rollout.servers.client import ServerClient, ServerFault
client = ServerClient("silent", sys.argv[1], None, 600.0, "")
print("asks", flush=True)
try:
    client.post("/question", {})
except ServerFault as fault:
    print(fault.blames, fault, flush=True)
"""
SILENT = """
import socket
listener = socket.create_server(("0.0.0.0", 8123))
print("listens", flush=True)
held = listener.accept()
print("asked", flush=True)
listener.accept()
"""


def test_a_question_on_its_way_to_a_node_that_is_lost_breaks_off_long_before_its_limit(hosts: list[str]):
    def on(host: str, code: str, *arguments: str) -> subprocess.Popen[str]:
        command = [*on_host(host), sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)

    server = on(hosts[1], SILENT)
    assert server.stdout is not None and server.stdout.readline() == "listens\n"
    client = on(hosts[0], CLIENT, f"http://{hosts[1]}:8123")
    try:
        assert client.stdout is not None and client.stdout.readline() == "asks\n"
        assert server.stdout.readline() == "asked\n"
        cut_cable()
        told, _ = client.communicate(timeout=120)  # of 600 seconds that an answer may take
        assert told.startswith("all no sign of its node")
    finally:
        client.kill()
        server.kill()
        server.communicate()
