"""Rollouts from ``vllm serve`` processes, on this machine or others: started by the run, or given by address.

    generate     ─► one request a question, to the server with least to do ─► groups, in order
    load_weights ─► each server in turn: weights by vLLM's transfer, caches dropped, version set and read back

See ``servers.pool`` for what happens when a server dies, ``servers.guard`` for what happens when the trainer does.
"""

import atexit
import getpass
import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import torch
from torch import Tensor

import ktr
from ktr.algorithm.importance import ImportanceCorrection
from ktr.config.even_shares import check_servers
from ktr.console.progress_line import ProgressLine
from ktr.errors import ConfigError
from ktr.policy.family import Policy
from ktr.ranks import rank_and_size
from ktr.rollout.engine import SamplingParams
from ktr.rollout.servers.placement import Placement
from ktr.rollout.servers.pool import Question, ServerPool
from ktr.rollout.vllm.setup import engine_arguments, engine_environment, quiet_vllm, require_vllm, serve_flags
from ktr.types import PromptInputs, RolloutGroup

log = logging.getLogger(__name__)
_NAME = "vllm_server"
_OF_THE_TRAINER = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_HANDED_ON = ("VLLM_", "NCCL_", "OMP_", "HF_HOME")  # to another node too, whatever starts processes there


class VLLMServerEngine:
    """A pool of vLLM servers whose weights are pushed from ``policy``.

    Args:
        policy: whose weights, ids and tokenizer are used.
        max_model_len: longest prompt and answer together.
        num_servers: how many servers the run starts, over all its ranks; each rank has its own.
        addresses: servers that run already (``http://host:port``), instead; they are used, never started or ended.
        host: where started servers listen. Beyond loopback they need a key.
        placement: the nodes of started servers; None: they stand here.
        api_key_env: the environment variable with the servers' key. Started servers without one get a random key.
        devices: for each started server, its GPUs as in ``CUDA_VISIBLE_DEVICES``; empty: all that the run sees.
        log_dir: where each server's output goes.
        start_limit_s, time_limit_s: bounds on a server's start and on one question; beyond the second it hangs.
        max_restarts: how often one server is restarted.
        max_num_seqs, max_num_batched_tokens, gpu_memory_utilization, kv_cache_gib, enforce_eager, extra: vLLM's.
        lora: push ``merged`` weights, or the ``adapters`` alone after the first time.
        correction, max_staleness, overlap: see ``RolloutEngine``.

    Raises ``MissingExtra`` without vLLM and ``ConfigError`` on values that can't be used together; at the first use,
    which is the held-out evaluation before training, ``EngineError`` with vLLM's own reason where it refuses the model.
    """

    uses_policy_tower = False

    def __init__(
        self,
        policy: Policy,
        max_model_len: int,
        log_dir: str | Path,
        num_servers: int = 1,
        addresses: Sequence[str] = (),
        host: str = "127.0.0.1",
        placement: Placement | None = None,
        api_key_env: str = "KTR_VLLM_API_KEY",
        devices: Sequence[str | int] = (),
        start_limit_s: float = 600.0,
        time_limit_s: float = 600.0,
        max_restarts: int = 3,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int = 8192,
        gpu_memory_utilization: float = 0.9,
        kv_cache_gib: float = 1.0,
        enforce_eager: bool = False,
        lora: Literal["merged", "adapters"] = "merged",
        correction: ImportanceCorrection | None = None,
        max_staleness: int = 0,
        overlap: int = 0,
        extra: Mapping[str, Any] | None = None,
    ):
        require_vllm()
        self.policy, self.max_model_len, self.max_num_seqs = policy, max_model_len, max_num_seqs
        self.correction, self.max_staleness, self.overlap = correction, max_staleness, overlap
        self.pushes_adapters = lora == "adapters" and policy.has_adapters
        self.num_generated, self.num_tokens, self.seconds, self.num_pushes = 0, 0, 0.0, 0
        self._lock = threading.Lock()  # nothing is pushed while something is generated
        self._num_servers, self._addresses, self._host, self._devices = num_servers, addresses, host, devices
        self._placement = placement
        # A server that was placed is known to nobody else: it can do with a key that is drawn for it.
        if isinstance(addresses, str):
            raise ConfigError(f"rollout.addresses={addresses}: give a list, as in [{addresses}]")
        if twice := [address for address in addresses if list(addresses).count(address) > 1]:
            raise ConfigError(f"rollout.addresses: {twice[0]} stands there twice, and it is one server")
        hosts = [] if placement is not None else [host]
        self._key = _key(api_key_env, [*hosts, *(_hostname(address) for address in addresses)])
        self._limits, self._max_restarts, self._log_dir = (start_limit_s, time_limit_s), max_restarts, Path(log_dir)
        if placement is not None and (addresses or _is_loopback(host)):
            what = "rollout.addresses" if addresses else f"rollout.host={host}"
            raise ConfigError(
                f"{what}: servers that are placed are started by the run, and reached from here; leave addresses out, "
                "and let them listen on host=0.0.0.0, or take rollout/placement=here"
            )
        if devices and len(devices) != num_servers:
            raise ConfigError(f"rollout.devices names the GPUs of {len(devices)} servers, there are {num_servers}")
        if torch.cuda.is_available() and not devices and not addresses and placement is None:
            raise ConfigError(
                "rollout.devices: name the GPU of each server, as in rollout.devices=[7], another than the trainer's: "
                "NCCL, which hands weights over, takes a GPU once. With one GPU choose rollout=vllm_colocate"
            )
        self._arguments = engine_arguments(
            policy,
            max_model_len,
            max_num_seqs,
            max_num_batched_tokens,
            gpu_memory_utilization,
            kv_cache_gib,
            enforce_eager or not torch.cuda.is_available(),
            weight_transfer="nccl" if torch.cuda.is_available() else "ktr_host",
            lora_rank=policy.lora_rank if self.pushes_adapters else 0,
            extra=extra or {},
        )
        self._folder: Path | None = None
        self._pool: ServerPool | None = None

    @property
    def pool(self) -> ServerPool:
        """The servers of this rank, started at the first use: only then is it known how many ranks there are."""
        if self._pool is None:
            self._pool = self._start()
        return self._pool

    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """One group for each prompt, in order; a prompt and its seed fix its completions, whichever server has it."""
        from ktr.rollout.vllm.member import Ask
        from ktr.rollout.vllm.requests import check_fits

        check_fits(prompts, sampling, self.max_model_len, _NAME)
        progress = ProgressLine(_NAME, len(prompts), seconds_between_lines=5.0, live=False)

        def show(num_answers: int, group: RolloutGroup | None, num_running: int, num_waiting: int) -> None:
            new = 0 if group is None else 1
            num_tokens = 0 if group is None else group.num_tokens
            progress.advance(new, new, num_tokens, detail=f"{num_running} running · {num_waiting} waiting")

        questions = [
            Question(Ask(prompt, sampling, seed), prompt.num_tokens + sampling.num_completions * sampling.max_tokens)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        # Enough to fill a server's batch, one more so that it never waits; the rest goes to whoever is done first.
        max_running = -(-self.max_num_seqs // sampling.num_completions) + 1
        with self._lock:
            groups = self.pool.ask(questions, max_running, show)
        self.num_generated += sum(len(group.completions) for group in groups)
        self.num_tokens += progress.num_tokens
        self.seconds += progress.seconds
        return groups

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Push ``named_tensors`` to every server that lives; one that starts gets them before it is asked."""
        pool = self.pool
        with self._lock:
            if self._folder is not None:
                self.policy.save_adapters(self._folder)
                named_tensors = self._base_weights()
            # A generator can be read once, and each server reads the weights, a restarted one again.
            self._weights.named_tensors = list(named_tensors) if isinstance(named_tensors, Iterator) else named_tensors
            self._weights.version = version
            pool.admit()
            self.num_pushes += 1

    def close(self) -> None:
        """End the started servers and wait until all that belongs to them is gone. May be called twice."""
        if self._pool is not None:
            self._pool.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def summary(self) -> dict[str, Any]:
        """What was generated and pushed so far, and every server that was given up."""
        return {
            "engine": _NAME,
            "num_generated": self.num_generated,
            "num_tokens": self.num_tokens,
            "seconds": self.seconds,
            "num_pushes": self.num_pushes,
            "incidents": [] if self._pool is None else list(self._pool.incidents),
        }

    def _start(self) -> ServerPool:
        quiet_vllm()
        from ktr.rollout.vllm.member import PushedWeights, ServeCommand, VLLMServer
        from ktr.rollout.vllm.transfer import register

        register()
        if self.pushes_adapters:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="adapters-", dir=self._log_dir))  # not the temporary folder
            self.policy.save_adapters(self._folder)
        self._weights = PushedWeights(self._base_weights(), 0, self._folder)
        if self._addresses:
            servers = [
                VLLMServer(address, self.policy, self._weights, self._key, *self._limits, address=address)
                for address in (self._addresses[i] for i in _own_share(len(self._addresses), "addresses"))
            ]
        else:
            key = self._key or secrets.token_urlsafe()
            flags = [*serve_flags(self._arguments), "--enable-scale-out", "--disable-uvicorn-access-log"]
            servers = []
            for i in _own_share(self._num_servers, "num_servers"):
                environment = _environment(key, str(self._devices[i]) if self._devices else None)
                log_path = self._log_dir / f"server-{i}.log"
                node, placement = (self._host, []) if self._placement is None else self._placement.of(i)
                name = f"{_NAME} {i}" + (f" on {node}" if placement else "")
                path = str(self.policy.path)
                command = ServeCommand(flags, environment, path, self._host, log_path, node, placement)
                servers.append(VLLMServer(name, self.policy, self._weights, key, *self._limits, command=command))
        pool = ServerPool(servers, self._max_restarts)
        atexit.register(self.close)
        try:
            pool.start()
        except BaseException:
            pool.close()
            raise
        return pool

    def _base_weights(self) -> Iterable[tuple[str, Tensor]]:
        return self.policy.named_weights(merge_adapters=not self.pushes_adapters)


def _own_share(total: int, key: str) -> range:
    """This rank's numbers out of ``total``."""
    rank, num_ranks = rank_and_size()
    check_servers(total, num_ranks, key)
    share = total // num_ranks
    return range(rank * share, (rank + 1) * share)


def _key(variable: str, hosts: Iterable[str]) -> str | None:
    key = os.environ.get(variable)
    for host in hosts:
        if not key and not _is_loopback(host):
            raise ConfigError(
                f"{host} can be reached from other machines: set {variable} to the servers' key, "
                "or let them listen on 127.0.0.1"
            )
        if not torch.cuda.is_available() and not _is_loopback(host) and not _is_any(host):
            raise ConfigError(f"{host}: without GPUs weights go through shared memory, to servers on this machine only")
    return key or None


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _hostname(address: str) -> str:
    place = urlsplit(address)
    if place.scheme != "http" or not place.hostname or not place.port or place.path.strip("/"):
        raise ConfigError(f"rollout.addresses: {address} is not of the form http://host:port")
    return place.hostname


def _environment(key: str, devices: str | None) -> dict[str, str | None]:
    """Changes to the environment where a server starts: the trainer's place among the ranks is taken out (None)."""
    package = str(Path(ktr.__file__).parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    environment: dict[str, str | None] = dict.fromkeys(_OF_THE_TRAINER)
    environment |= {name: value for name, value in os.environ.items() if name.startswith(_HANDED_ON)}
    # A server's temporary folder goes with it; what torch compiles for one is of use to the next.
    compiled = f"{tempfile.gettempdir()}/torchinductor_{getpass.getuser()}"
    environment["TORCHINDUCTOR_CACHE_DIR"] = os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled)
    environment |= engine_environment() | {
        "PYTHONPATH": path,
        "VLLM_API_KEY": key,
        "VLLM_SERVER_DEV_MODE": "1",  # the routes of weight transfer and caches
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    return environment if devices is None else environment | {"CUDA_VISIBLE_DEVICES": devices}
