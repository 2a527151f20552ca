"""One vLLM server of a pool: started by this run or given by address, asked and pushed to over HTTP."""

import logging
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor
from vllm.distributed.weight_transfer.base import TrainerInitInfo, TrainerWeightTransferEngine
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from ktr.errors import ConfigError, EngineError
from ktr.policy.family import Policy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.servers.client import ServerClient, ServerFault
from ktr.rollout.servers.process import ServerProcess, free_port
from ktr.rollout.vllm.requests import PositionCheck
from ktr.rollout.vllm.transfer import HostTrainerInitInfo, PolicyWeights
from ktr.rollout.vllm.wire import answered_group, request_body
from ktr.types import PromptInputs, RolloutGroup

log = logging.getLogger(__name__)
_REFUSED = "change the model or rollout.*, or choose rollout=transformers"
_PORT_TAKEN = "address already in use"
_HOW_TO_START = (
    "a server given by address is started by `python -m ktr.rollout.vllm.serve`, with the key that the trainer has in "
    "the variable of rollout.api_key_env"
)
_FOLDER_VARIABLES = ("TMPDIR", "VLLM_RPC_BASE_PATH")
_CONSEQUENCES = "Engine core initialization failed|EngineDeadError|validation errors? for"
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Ask:
    """What one question is, to a server."""

    prompt: PromptInputs
    sampling: SamplingParams
    seed: int


@dataclass(frozen=True)
class ServeCommand:
    """How this run starts a server: vLLM's flags and environment, where it listens, where its log goes.

    On another node by ``placement``, the start of a command line; ``node`` is that node's name, or where a server that
    stands here is reached.
    """

    flags: Sequence[str]
    environment: Mapping[str, str | None]
    model: str
    host: str
    log_path: Path
    node: str
    placement: Sequence[str] = ()


@dataclass
class PushedWeights:
    """What ``VLLMServer.admit`` brings a server up to; shared by all servers of an engine."""

    named_tensors: Iterable[tuple[str, Tensor]] = ()
    version: int = 0
    adapters_folder: Path | None = None  # where the adapters lie if they alone are pushed after the first time


class WeightSync:
    """vLLM's weight-sync protocol (``VLLMWeightSyncClient``) over our client: its key, its errors."""

    def __init__(self, client: ServerClient):
        self.client = client

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.client.post("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self.client.post("/start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self.client.post("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.client.post("/finish_weight_update", {"weight_version": weight_version})


class VLLMServer:
    """One server, started by ``command`` or given by ``address``. See ``ktr.rollout.servers.pool.Server``.

    ``start_limit_s`` and ``time_limit_s`` bound a start and any one request.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        weights: PushedWeights,
        key: str | None,
        start_limit_s: float,
        time_limit_s: float,
        command: ServeCommand | None = None,
        address: str | None = None,
    ):
        self.name, self.policy, self.weights = name, policy, weights
        self.key, self.start_limit_s, self.time_limit_s = key, start_limit_s, time_limit_s
        self.command, self.address = command, address
        self.pid: int | None = None
        self.process: ServerProcess | None = None
        self._client: ServerClient | None = None
        self._transfer: TrainerWeightTransferEngine[Any] | None = None
        self._adapter: str | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Start it, or wait for the one given. Raises ``EngineError`` with vLLM's own reason and the log's path."""
        if self.command is None:
            assert self.address is not None
            self._wait(self._client_of(self.address), None)
        else:
            while not self._start_on(free_port(self.command.host)):
                log.warning("%s: its port was taken meanwhile; another one is tried", self.name)
        self._check_positions = PositionCheck()
        self._transfer = self._adapter = None
        try:
            self.reads_before_top_p = self._rpc("log_probs_before_truncation") == "True"
        except ServerFault as fault:
            raise EngineError(self.name, f"it started, but {fault}", _REFUSED) from fault

    def admit(self) -> None:
        """Push the current weights, drop every cache with results of older ones, set the version and read it back."""
        client, weights = self._connected(), self.weights
        try:
            if self._transfer is None or weights.adapters_folder is None:
                self._send(client)
            if weights.adapters_folder is not None:
                self._load_adapters(client, weights.adapters_folder)
            for cache in ("prefix", "encoder", "mm"):
                answer = client.post(f"/reset_{cache}_cache")
                if answer is not None and not answer["success"]:
                    raise ServerFault(f"it did not drop its {cache} cache")
            client.post("/update_weight_version", {"new_version": str(weights.version)})
            version = client.get("/weight_info")["weight_version"]
        except ServerFault as fault:
            if fault.status is not None and client.is_healthy():  # it lives, and would say the same again
                raise EngineError(self.name, f"the weights were not taken over: {fault}", self._where()) from fault
            raise
        if version != str(weights.version):
            raise ServerFault(f"it holds weights {version} after a push of {weights.version}")

    def ask(self, content: Ask) -> RolloutGroup:
        """The group of one question."""
        client, version = self._connected(), self.weights.version
        if content.sampling.top_p < 1 and not self.reads_before_top_p:
            raise ConfigError(
                f"sampling.top_p={content.sampling.top_p}: this vLLM has no place to read log-probs before top-p"
            )
        self._check_positions([content.prompt], self.policy, self._prompt_positions, self.name)
        body = request_body(content.prompt, content.sampling, self.policy, content.seed, self._adapter)
        answer = client.post("/inference/v1/generate", body)
        return answered_group(content.prompt, content.sampling, self.policy, answer, self.name, version)

    def stop(self) -> None:
        """End the processes that ``start`` started, all of them; a server given by address is left alone."""
        with self._lock:
            process, self.process = self.process, None
        if process is not None:
            process.close()

    def close(self) -> None:
        """Stop it for good."""
        self._closed = True
        self.stop()

    def _start_on(self, port: int) -> bool:
        """False where the port was taken meanwhile."""
        command = self.command
        assert command is not None
        where = ["--host", command.host, "--port", str(port)]
        process = ServerProcess(
            [sys.executable, "-m", "ktr.rollout.vllm.serve", command.model, *command.flags, *where],
            command.environment,
            command.log_path,
            _FOLDER_VARIABLES,
            _CONSEQUENCES,
            command.placement,
            self.start_limit_s,
        )
        with self._lock:
            if not self._closed:
                self.process = process
        if self.process is not process:
            process.close()
            raise EngineError(self.name, "it was closed", "")
        self.pid, self.address = process.pid, f"http://{_in_url(command.node)}:{port}"
        try:
            self._wait(self._client_of(self.address), process)
        except EngineError as error:
            process.close()
            if _PORT_TAKEN in error.reason.lower():
                return False
            raise
        return True

    def _wait(self, client: ServerClient, process: ServerProcess | None) -> None:
        deadline = time.monotonic() + self.start_limit_s
        while not client.is_healthy():
            if process is not None and process.exit_code is not None:
                raise EngineError(self.name, f"vLLM did not start: {process.reason()}", f"{_REFUSED}; {self._where()}")
            if self._closed or time.monotonic() > deadline:
                raise EngineError(self.name, f"no server answers at {client.address}", self._where())
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        self._client = client

    def _client_of(self, address: str) -> ServerClient:
        return ServerClient(self.name, address, self.key, self.time_limit_s, _HOW_TO_START)

    def _connected(self) -> ServerClient:
        assert self._client is not None
        return self._client

    def _where(self) -> str:
        if self.command is not None:
            return f"its log is {self.command.log_path}"
        return (
            "start it as the first line of a started server's log shows (`python -m ktr.rollout.vllm.serve …`), "
            "or take it out of rollout.addresses"
        )

    def _send(self, client: ServerClient) -> None:
        # NCCL sends from this process's GPU; the weights of a policy that is offloaded lie in the host's memory.
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
        if device is not None:
            torch.cuda.synchronize(device)  # it packs them on streams of its own, and the optimizer may not be done
        source, transfer = PolicyWeights(self.policy, self.weights.named_tensors, device), self._transfer
        if transfer is None:
            info = self._transfer_info(client)
            transfer = WeightTransferTrainerFactory.trainer_init(info, client=WeightSync(client), source=source)
        transfer.source = source
        transfer.send_weights()
        self._transfer = transfer

    def _transfer_info(self, client: ServerClient) -> TrainerInitInfo:
        """Between GPUs one NCCL group for each server; without GPUs a file, in shared memory on one machine."""
        if torch.cuda.is_available():
            own_address = _address_towards(client.address)
            num_workers = client.get("/get_world_size")["world_size"]
            return NCCLTrainerInitInfo(own_address, free_port(own_address), 1 + num_workers, rank=0)
        if self.process is None or self.command is None:
            return HostTrainerInitInfo(rank=0)
        placed = bool(self.command.placement)  # then the logs' folder is one that both see
        return HostTrainerInitInfo(self.command.log_path.parent if placed else self.process.shared_folder, rank=0)

    def _load_adapters(self, client: ServerClient, folder: Path) -> None:
        # A name is never used twice: vLLM would keep what it has under it.
        previous, self._adapter = self._adapter, f"adapters-{uuid.uuid4().hex}"
        client.post("/v1/load_lora_adapter", {"lora_name": self._adapter, "lora_path": str(folder)}, is_text=True)
        if previous is not None:
            client.post("/v1/unload_lora_adapter", {"lora_name": previous}, is_text=True)

    def _rpc(self, method: str, *arguments: Any) -> Any:
        """A method of the worker extension, called on every worker; the first one's result."""
        return self._connected().post("/collective_rpc", {"method": method, "args": arguments})["results"][0]

    def _prompt_positions(self, *layout: Any) -> list[list[int]]:
        return self._rpc("prompt_positions", *layout)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address_towards(address: str) -> str:
    """This machine's own address as the server at ``address`` reaches it."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        return connection.getsockname()[0]
