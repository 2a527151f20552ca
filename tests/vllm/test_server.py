"""Real servers sample from the policy itself, whichever of them dies, and none outlives the trainer."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ktr.errors import ConfigError, EngineError
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.servers.client import ServerClient
from ktr.rollout.servers.placement import Placement
from ktr.rollout.vllm.member import PushedWeights, VLLMServer
from ktr.rollout.vllm.server import VLLMServerEngine
from ktr.types import PromptInputs
from tests.tiny_policy import random_prompt
from tests.vllm.conftest import Difference, largest_difference

CLOSE = 1e-4
DEADLINE_S = 180.0
SAMPLING = SamplingParams(num_completions=8, max_tokens=24)
SETTINGS: dict[str, Any] = {
    "max_model_len": 128,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "kv_cache_gib": 0.5,
    "enforce_eager": True,
}
TRAINER = """
import json, os, sys
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.vllm.server import VLLMServerEngine
from tests.tiny_policy import random_prompt
settings = json.loads(sys.argv[3])
policy = QwenVLPolicy(sys.argv[1])
engine = VLLMServerEngine(policy, log_dir=sys.argv[2], **settings)
engine.load_weights(policy.named_weights(), 1)
prompts = [random_prompt(policy, i) for i in range(4)]
engine.generate(prompts, SamplingParams(8, 24), range(4))
process = engine.pool._members[0].server.process
print(json.dumps({"address": engine.pool._members[0].server.address,
                  "folders": [str(process.folder), str(process.shared_folder)]}), flush=True)
while True:
    engine.generate(prompts, SamplingParams(8, 24), range(4))
"""


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def engine(policy: QwenVLPolicy, log_dir: Path) -> Iterator[VLLMServerEngine]:
    engine = VLLMServerEngine(policy, log_dir=log_dir, num_servers=2, **SETTINGS)
    yield engine
    before = descendants(os.getpid())
    engine.close()
    left = [pid for pid in before if Path(f"/proc/{pid}/comm").exists() and "VLLM" in comm(pid)]
    assert not left


@pytest.fixture(scope="module")
def prompts(policy: QwenVLPolicy) -> list[PromptInputs]:
    return [random_prompt(policy, index) for index in range(8)]


@torch.no_grad()
def perturb(policy: QwenVLPolicy, scale: float = 0.03) -> None:
    generator = torch.Generator().manual_seed(7)
    for parameter in policy.model.parameters():
        if parameter.requires_grad:  # with adapters, they alone
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def members(engine: VLLMServerEngine) -> list[VLLMServer]:
    return [member.server for member in engine.pool._members]  # type: ignore[misc]


def seeds_of(prompts: list[PromptInputs]) -> list[int]:
    return list(range(len(prompts)))


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_log_probs_are_the_trainers_before_any_push(
    engine: VLLMServerEngine, prompts: list[PromptInputs], difference: Difference, top_p: float
):
    sampling = SamplingParams(8, 24, temperature=0.8, top_p=top_p)
    groups = engine.generate(prompts, sampling, seeds_of(prompts))
    assert [group.prompt for group in groups] == prompts
    assert [len(group.completions) for group in groups] == [8] * len(prompts)
    assert difference(groups, sampling) < CLOSE


def test_a_seed_fixes_the_completions_whichever_server_has_the_question(
    engine: VLLMServerEngine, prompts: list[PromptInputs]
):
    whole = engine.generate(prompts, SAMPLING, seeds_of(prompts))
    parts = [engine.generate([prompt], SAMPLING, [seed])[0] for seed, prompt in reversed(list(enumerate(prompts)))]
    for one, other in zip(whole, reversed(parts), strict=True):
        assert [c.token_ids_T.tolist() for c in one.completions] == [c.token_ids_T.tolist() for c in other.completions]


def test_a_push_reaches_every_server_and_every_cache(
    engine: VLLMServerEngine, policy: QwenVLPolicy, prompts: list[PromptInputs], difference: Difference
):
    engine.generate(prompts, SAMPLING, seeds_of(prompts))  # fills the prefix and encoder caches with these prompts
    perturb(policy)
    assert difference(engine.generate(prompts, SAMPLING, seeds_of(prompts)), SAMPLING) > 100 * CLOSE
    engine.load_weights(policy.named_weights(), 5)
    groups = engine.generate(prompts, SAMPLING, seeds_of(prompts))
    assert difference(groups, SAMPLING) < CLOSE
    assert {c.weights_version for group in groups for c in group.completions} == {5}


def test_banned_ids_are_never_sampled_though_the_weights_favour_them(
    engine: VLLMServerEngine, policy: QwenVLPolicy, prompts: list[PromptInputs], difference: Difference
):
    before = {name: tensor.clone() for name, tensor in policy.named_weights()}
    favourite = engine.generate(prompts[:1], SAMPLING, [0])[0].completions[0].token_ids_T[0]
    with torch.no_grad():
        policy.model.lm_head.weight[policy.banned_ids] = 3 * policy.model.lm_head.weight[favourite]
    engine.load_weights(policy.named_weights(), 6)
    groups = engine.generate(prompts, SAMPLING, seeds_of(prompts))
    sampled = {int(token) for group in groups for c in group.completions for token in c.token_ids_T}
    assert not sampled & set(policy.banned_ids.tolist())
    assert difference(groups, SAMPLING) < CLOSE
    policy.model.load_state_dict(before)
    engine.load_weights(policy.named_weights(), 7)


def test_the_key_guards_every_route(engine: VLLMServerEngine):
    for server in members(engine):
        assert server.address is not None and "127.0.0.1" in server.address
        stranger = ServerClient("stranger", server.address, None, 5.0, "start it")
        for path in ("/collective_rpc", "/update_weights", "/inference/v1/generate", "/pause"):
            with pytest.raises(EngineError, match="HTTP 401"):
                stranger.post(path, {})


def test_a_killed_server_costs_no_group_and_comes_back_with_the_current_weights(
    engine: VLLMServerEngine,
    policy: QwenVLPolicy,
    difference: Difference,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    many = [random_prompt(policy, index) for index in range(48)]
    victim = members(engine)[0]
    answered, pid = [], victim.pid
    ask = victim.ask

    def ask_and_kill(content: Any) -> Any:
        group = ask(content)
        answered.append(group)
        if len(answered) == 3:  # in the middle of the batch: others are on their way to it
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
        return group

    monkeypatch.setattr(victim, "ask", ask_and_kill)
    sampling = SamplingParams(8, 64)
    groups = engine.generate(many, sampling, seeds_of(many))
    assert [group.prompt for group in groups] == many
    assert {len(group.completions) for group in groups} == {8}
    assert difference(groups, sampling) < CLOSE
    (incident,) = engine.summary()["incidents"]
    assert json.dumps(incident)
    assert incident["server"] == victim.name and incident["pid"] == pid
    assert int(incident["remedy"].split()[0]) > 0
    assert f"{victim.name} (pid {pid}) is given up" in caplog.text

    perturb(policy, 0.01)  # while it starts again, the others are pushed to
    engine.load_weights(policy.named_weights(), 8)
    deadline, before = time.monotonic() + DEADLINE_S, len(answered)
    while len(answered) < before + 2:
        assert time.monotonic() < deadline
        groups = engine.generate(many[:4], SAMPLING, seeds_of(many[:4]))
    assert victim.pid != pid
    assert difference(groups, SAMPLING) < CLOSE
    assert {c.weights_version for group in groups for c in group.completions} == {8}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_nothing_of_a_server_outlives_the_trainer(policy_folder: Path, tmp_path: Path, how: signal.Signals):
    shared = set(os.listdir("/dev/shm"))
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(policy_folder), str(tmp_path), json.dumps(SETTINGS)],
        stdout=subprocess.PIPE,
        start_new_session=True,  # a terminal of its own, so to speak
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background has it ignored
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert trainer.stdout is not None
    try:
        told = trainer.stdout.readline()
        assert told, "the trainer did not get as far as generating"
        server = json.loads(told)
        family = descendants(trainer.pid)
        assert any("VLLM" in comm(pid) for pid in family)
        os.killpg(trainer.pid, how)
        trainer.wait(DEADLINE_S)
    finally:
        trainer.kill()
        trainer.wait()
        trainer.stdout.close()
    for pid in family:
        assert_ends(pid)
    host, port = server["address"].removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    assert not [folder for folder in server["folders"] if Path(folder).exists()]
    others = ("sem.loky", "joblib_", "ktr-server-")  # of other processes; this one's folder was looked for above
    assert not {name for name in os.listdir("/dev/shm") if not name.startswith(others)} - shared


def test_a_model_that_vllm_refuses_is_refused_at_once_with_its_reason(policy: QwenVLPolicy, tmp_path: Path):
    engine = VLLMServerEngine(policy, log_dir=tmp_path, **SETTINGS | {"max_model_len": 100_000})
    with pytest.raises(EngineError, match=r"max_model_len.*server-0\.log"):
        engine.load_weights(policy.named_weights(), 0)


def test_unusable_settings_are_refused_before_anything_starts(
    policy: QwenVLPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refused(match: str, **changes: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            VLLMServerEngine(policy, log_dir=tmp_path, **SETTINGS | changes)

    monkeypatch.delenv("KTR_VLLM_API_KEY", raising=False)
    refused("KTR_VLLM_API_KEY", host="0.0.0.0")
    refused("KTR_VLLM_API_KEY", addresses=["http://10.0.0.1:8000"])
    refused("http://host:port", addresses=["10.0.0.1"])
    placement = Placement(["n3"], ["ssh", "{node}"])
    refused(r"rollout\.addresses: servers that are placed", addresses=["http://127.0.0.1:8000"], placement=placement)
    refused(r"rollout\.host=127\.0\.0\.1: servers that are placed", placement=placement)
    refused("the GPUs of 1 servers, there are 2", num_servers=2, devices=["0"])

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    with pytest.raises(ConfigError, match="3 servers for 2 ranks"):
        VLLMServerEngine(policy, log_dir=tmp_path, num_servers=3, **SETTINGS).load_weights([], 0)
    assert not list(tmp_path.iterdir())


def test_200_pushes_leave_nothing_behind(engine: VLLMServerEngine, policy: QwenVLPolicy, prompts: list[PromptInputs]):
    """Neither in the trainer nor in any process of its servers."""

    def held() -> dict[str, int]:
        pids = descendants(os.getpid()) | {os.getpid()}
        status = [Path(f"/proc/{pid}/status").read_text().split() for pid in pids]
        return {
            "memory": sum(int(words[words.index("VmRSS:") + 1]) for words in status if "VmRSS:" in words),
            "threads": sum(int(words[words.index("Threads:") + 1]) for words in status),
            "files": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
            "shared memory": sum(Path(f"/proc/{pid}/maps").read_text().count("/dev/shm/") for pid in pids),
            "shared files": sum(len(list(server.process.shared_folder.iterdir())) for server in members(engine)),
        }

    def update(version: int) -> None:
        engine.load_weights(policy.named_weights(), version)
        engine.generate(prompts[:2], SamplingParams(2, 4), [1, 2])

    for version in range(20):
        update(version)
    before = held()
    for version in range(200):
        update(version)
    after = held()
    grown = {what: (before[what], after[what]) for what in after if after[what] > 1.02 * before[what]}
    assert not grown


@pytest.mark.parametrize("lora", ["merged", "adapters"])
def test_adapters_reach_a_server(policy_folder: Path, prompts: list[PromptInputs], tmp_path: Path, lora: Any):
    targets = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": False}
    policy = QwenVLPolicy(policy_folder, lora=targets).eval()
    engine = VLLMServerEngine(policy, log_dir=tmp_path, lora=lora, **SETTINGS)
    for version in (1, 2):
        perturb(policy)
        engine.load_weights(policy.named_weights(), version)
        groups = engine.generate(prompts, SAMPLING, seeds_of(prompts))
        assert largest_difference(policy, groups, SAMPLING) < CLOSE
    engine.close()
    assert engine._folder is None or not engine._folder.exists()


def test_a_server_given_by_address_is_used_and_left_alone(
    engine: VLLMServerEngine,
    policy: QwenVLPolicy,
    prompts: list[PromptInputs],
    difference: Difference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    running = members(engine)[0]
    assert running.address is not None and running.key is not None
    monkeypatch.setenv("KTR_VLLM_API_KEY", "another")
    with pytest.raises(EngineError, match="401"):
        VLLMServerEngine(policy, log_dir=tmp_path, addresses=[running.address], **SETTINGS).load_weights([], 0)
    monkeypatch.setenv("KTR_VLLM_API_KEY", running.key)
    user = VLLMServerEngine(policy, log_dir=tmp_path, addresses=[running.address], **SETTINGS)
    perturb(policy, 0.01)
    user.load_weights(policy.named_weights(), 11)
    assert difference(user.generate(prompts, SAMPLING, seeds_of(prompts)), SAMPLING) < CLOSE
    user.close()
    assert running.process is not None and running.process.exit_code is None
    assert not list(tmp_path.iterdir())


def test_a_push_that_leaves_something_out_stops(engine: VLLMServerEngine, policy: QwenVLPolicy):
    """Last: its servers are of no use after it."""
    weights = [(name, tensor) for name, tensor in policy.named_weights() if "layers.1.mlp.up_proj" not in name]
    with pytest.raises(EngineError, match=r"the push left out .*layers\.1"):
        engine.load_weights(weights, 9)


def descendants(root: int) -> set[int]:
    from ktr.rollout.servers.guard import _descendants

    return _descendants(root)


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def assert_ends(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 60)[0], f"process {pid} is still there: {comm(pid)}"
    finally:
        os.close(handle)


class Weight(torch.Tensor):
    """A tensor that notes where it is asked to be."""

    asked: list[torch.device]

    def detach(self) -> "Weight":
        return self

    def to(self, device: torch.device) -> "Weight":  # pyright: ignore
        self.asked.append(device)
        return self


def test_weights_are_sent_from_the_trainers_gpu_wherever_they_lie(
    policy: QwenVLPolicy, monkeypatch: pytest.MonkeyPatch
):
    """Those of an offloaded policy lie in the host's memory, where NCCL does not read; and once they are final."""
    weight = torch.ones(2).as_subclass(Weight)
    weight.asked = []
    ready: list[tuple[torch.device, int]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: ready.append((device, len(weight.asked))))
    server = VLLMServer("server", policy, PushedWeights([("weight", weight)]), None, 1.0, 1.0)
    transfer: Any = SimpleNamespace(send_weights=lambda: list(transfer.source))
    server._transfer = transfer
    server._send(ServerClient("server", "http://127.0.0.1:1", None, 1.0, ""))
    assert weight.asked == [torch.device("cuda", 1)] and ready == [(torch.device("cuda", 1), 0)]
