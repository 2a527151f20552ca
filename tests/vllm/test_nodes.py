"""Servers on two hosts, started from one of them: they answer, one is lost with its cable, and none is left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_run import ROOT
from tests.two_hosts import cut_cable, ip, on_host, two_hosts

CLOSE, DEADLINE_S = 1e-4, 180.0
TRAINER = """
import json, os, sys
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.servers.placement import Placement
from ktr.rollout.vllm.server import VLLMServerEngine
from tests.tiny_policy import random_prompt
from tests.vllm.conftest import largest_difference
settings = {"max_model_len": 128, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "kv_cache_gib": 0.5,
            "enforce_eager": True, "host": "0.0.0.0", "num_servers": 2, "start_limit_s": 120}
policy, sampling = QwenVLPolicy(sys.argv[1]).eval(), SamplingParams(4, 16)
placement = Placement(sys.argv[3:], ["ip", "netns", "exec", "{node}"])
engine = VLLMServerEngine(policy, log_dir=sys.argv[2], placement=placement, **settings)
prompts = [random_prompt(policy, i) for i in range(12)]
asked = dict.fromkeys(sys.argv[3:], 0)
for version in range(1, 4):
    engine.load_weights(policy.named_weights(), version)
    for member in engine.pool._members:
        member.server.ask = lambda content, server=member.server: counted(server, content)
    def counted(server, content):
        answer = type(server).ask(server, content)
        asked[server.name.rpartition(" ")[2]] += 1
        return answer
    groups = engine.generate(prompts, sampling, range(12))
    print(json.dumps({"asked": asked, "difference": largest_difference(policy, groups, sampling),
                      "pids": [member.server.pid for member in engine.pool._members],
                      "lost": [incident["server"] for incident in engine.summary()["incidents"]]}), flush=True)
    asked = dict.fromkeys(asked, 0)
    sys.stdin.readline()
"""

hosts = pytest.fixture(two_hosts)


def test_servers_on_two_hosts_answer_and_one_that_is_cut_off_costs_no_group(
    hosts: list[str], policy_folder: Path, tmp_path: Path
):
    command = [*on_host(hosts[0]), sys.executable, "-c", TRAINER, str(policy_folder), str(tmp_path), *hosts]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    trainer = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True, text=True
    )
    assert trainer.stdin is not None and trainer.stdout is not None

    def next_round() -> dict:
        assert trainer.stdin is not None and trainer.stdout is not None
        trainer.stdin.write("\n")
        trainer.stdin.flush()
        return json.loads(trainer.stdout.readline())

    try:
        both = json.loads(trainer.stdout.readline())
        assert all(both["asked"].values()) and both["difference"] < CLOSE and not both["lost"]
        there = {int(pid) for pid in ip("netns", "pids", hosts[1]).split()}
        assert both["pids"][1] in there and both["pids"][0] not in there
        cut_cable()
        one = next_round()
        assert one["asked"] == {hosts[0]: 12, hosts[1]: 0} and one["difference"] < CLOSE
        assert {name.rpartition(" ")[2] for name in one["lost"]} == {hosts[1]}
    finally:
        os.killpg(trainer.pid, signal.SIGKILL)
        trainer.communicate()
    for host in hosts:
        for pid in map(int, ip("netns", "pids", host).split()):
            ends(pid)
        assert not ip("netns", "pids", host).split()


def ends(pid: int) -> None:
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=DEADLINE_S, check=True)
