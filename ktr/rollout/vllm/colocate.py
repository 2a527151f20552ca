"""vLLM in the trainer's own process and on its device: one engine a rank.

    generate ─► wake, where it sleeps ─► one request a question ─► step until all are done ─► sleep
    load_weights ─► tensors by reference ─► prefix and encoder caches dropped ─► version

The engine starts at its first use, which is the held-out evaluation before the first update: a model that vLLM refuses
is refused before anything is trained.
"""

import gc
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ktr.algorithm.importance import ImportanceCorrection
from ktr.console.progress_line import ProgressLine
from ktr.errors import ConfigError, EngineError
from ktr.policy.family import Policy
from ktr.ranks import is_distributed, is_spread
from ktr.rollout.engine import SamplingParams
from ktr.rollout.vllm.setup import devices_from, engine_arguments, engine_environment, quiet_vllm, require_vllm
from ktr.rollout.vllm.shared_process import alarm, undisturbed
from ktr.types import PromptInputs, RolloutGroup

log = logging.getLogger(__name__)
_NAME = "vllm_colocate"
_RESUME = "start the run again to go on from its last checkpoint"


class VLLMColocateEngine:
    """Rollouts from an in-process vLLM whose weights are pushed from ``policy``.

    Args:
        policy: whose weights, ids and tokenizer are used.
        max_model_len: longest prompt and answer together.
        max_num_seqs, max_num_batched_tokens: vLLM's batch limits.
        gpu_memory_utilization: share of the GPU that is vLLM's; the trainer needs the rest.
        kv_cache_gib: room for keys and values on a CPU.
        enforce_eager: no CUDA graphs.
        sleep: free the GPU between rollouts: weights to the host, keys and values dropped. GPUs only.
        time_limit_s: a batch that takes longer is a hang.
        lora: push ``merged`` weights, or the ``adapters`` beside base weights that are pushed once.
        correction, max_staleness, overlap: see ``RolloutEngine``; a colocated engine can't overlap.
        extra: further ``EngineArgs`` of vLLM.

    A batch that fails (vLLM raises, gives no answer in time, or an incomplete one) is generated once more on a fresh
    engine; then ``EngineError`` stops the run, which can be resumed.
    """

    uses_policy_tower = False

    def __init__(
        self,
        policy: Policy,
        max_model_len: int,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int = 8192,
        gpu_memory_utilization: float = 0.3,
        kv_cache_gib: float = 1.0,
        enforce_eager: bool = False,
        sleep: bool = False,
        time_limit_s: float = 600.0,
        lora: Literal["merged", "adapters"] = "merged",
        correction: ImportanceCorrection | None = None,
        max_staleness: int = 0,
        overlap: int = 0,
        extra: Mapping[str, Any] | None = None,
    ):
        require_vllm()
        if overlap:
            raise ConfigError(
                "rollout.overlap=1: a colocated engine has the trainer's own device; choose rollout=vllm_server"
            )
        if sleep and not torch.cuda.is_available():
            raise ConfigError("rollout.sleep=true: vLLM sleeps on GPUs only, and there is none here")
        self.policy = policy
        self.max_model_len = max_model_len
        self.sleep = sleep
        self.time_limit_s = time_limit_s
        self.pushes_adapters = lora == "adapters" and policy.has_adapters
        self.correction, self.max_staleness, self.overlap = correction, max_staleness, overlap
        self.version = 0
        self.incidents: list[dict[str, Any]] = []
        self.num_tokens, self.num_pushes, self.seconds = 0, 0, 0.0
        self._arguments = engine_arguments(
            policy,
            max_model_len,
            max_num_seqs,
            max_num_batched_tokens,
            gpu_memory_utilization,
            kv_cache_gib,
            enforce_eager or not torch.cuda.is_available(),
            weight_transfer="ktr_host",
            lora_rank=policy.lora_rank if self.pushes_adapters else 0,
            extra={"enable_sleep_mode": sleep} | dict(extra or {}),
        )
        self._engine: Any = None  # vLLM's LLMEngine
        self._adapter: Any = None  # the LoRARequest of the last push

    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """One group for each prompt, in order; a prompt and its seed fix its completions."""
        from ktr.rollout.vllm.requests import check_fits

        self._ensure_started()
        # What a fresh engine would refuse again is refused at once.
        check_fits(prompts, sampling, self.max_model_len, _NAME)
        self._check_truncation(sampling)
        self._check_positions(prompts, self.policy, self._prompt_positions, _NAME)
        try:
            return self._generate(prompts, sampling, seeds)
        except Exception as error:  # whatever vLLM raises: this is the one border to it, and nothing is swallowed
            self._record("failed while generating; the batch is generated again on a fresh engine", error)
        self._restart()
        try:
            return self._generate(prompts, sampling, seeds)
        except Exception as error:
            self._record("failed again on a fresh engine", error)
            raise EngineError(_NAME, f"failed twice on one batch: {_first_line(error)}", _RESUME) from error

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Push ``named_tensors``, drop every cache that holds results of older weights, and set the version."""
        if self._engine is None:
            self._start()
        elif self.sleep:
            self._engine.wake_up(["weights"])
        try:
            with undisturbed():
                self._push(named_tensors, version)
        except Exception as error:
            self.close()  # it may hold half of the new weights
            raise EngineError(_NAME, f"the weights were not taken over: {_first_line(error)}", _RESUME) from error

    def close(self) -> None:
        """Shut the engine down and give its memory back."""
        if self._engine is None:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        self._engine = self._adapter = None
        gc.collect()
        if not is_distributed():  # else the trainer's process group is not vLLM's to destroy
            cleanup_dist_env_and_memory()

    def summary(self) -> dict[str, Any]:
        """Tokens, seconds and pushes so far, and what went wrong."""
        return {
            "engine": _NAME,
            "num_tokens": self.num_tokens,
            "seconds": self.seconds,
            "num_pushes": self.num_pushes,
            "incidents": self.incidents,
        }

    def _generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        from ktr.rollout.vllm.requests import multimodal_input, rollout_group, sampling_params

        progress = ProgressLine(_NAME, len(prompts), seconds_between_lines=5.0, live=False)
        finished: dict[str, Any] = {}
        with undisturbed(), self._awake(), alarm(self.time_limit_s):
            for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
                request = multimodal_input(prompt, self.policy)
                params = sampling_params(sampling, self.policy, seed)
                self._engine.add_request(str(i), request, params, lora_request=self._adapter)
            while self._engine.has_unfinished_requests():
                if progress.seconds > self.time_limit_s:
                    raise TimeoutError(f"{len(finished)} of {len(prompts)} questions after {self.time_limit_s:g} s")
                for output in self._engine.step():
                    if output.finished:
                        finished[output.request_id] = output
                        num_tokens = sum(len(completion.token_ids) for completion in output.outputs)
                        progress.advance(1, 1, num_tokens)
                progress.advance(0, detail=f"{len(prompts) - len(finished)} running")
        self.num_tokens += progress.num_tokens
        self.seconds += progress.seconds
        groups = []
        for i, prompt in enumerate(prompts):
            output = finished[str(i)]
            if output.prompt_token_ids != prompt.input_ids_P.tolist():
                raise EngineError(_NAME, f"it read other tokens than question {prompt.question.id} holds", _RESUME)
            completions = [_completion(completion) for completion in output.outputs]
            groups.append(rollout_group(prompt, sampling, self.policy, completions, _NAME, self.version))
        return groups

    def _ensure_started(self) -> None:
        if self._engine is None:
            self.load_weights(self._base_weights(), self.version)

    def _base_weights(self) -> Iterable[tuple[str, Tensor]]:
        return self.policy.named_weights(merge_adapters=not self.pushes_adapters)

    def _restart(self) -> None:
        if is_distributed() and any(map(is_spread, self.policy.parameters())):
            raise EngineError(_NAME, "one rank alone cannot push weights that are spread over several again", _RESUME)
        try:
            self.close()
        except Exception as error:  # a broken engine may not shut down cleanly; the fresh one decides
            self._record("did not shut down cleanly", error)
            self._engine = None
        self._ensure_started()

    def _start(self) -> None:
        # Beside other ranks vLLM needs a process for its own process group; alone it shares the trainer's.
        own_process = is_distributed()
        os.environ.update(
            engine_environment()
            | {
                "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(own_process)),
                "VLLM_CONFIGURE_LOGGING": str(int(own_process)),  # here, the trainer's handlers are there already
                "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
            }
        )
        quiet_vllm()
        try:
            with undisturbed():
                from vllm import EngineArgs
                from vllm.v1.engine.llm_engine import LLMEngine

                from ktr.rollout.vllm.requests import PositionCheck
                from ktr.rollout.vllm.transfer import register

                register()
                arguments = devices_from(self.policy.device) | self._arguments
                self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
                self._untruncated = all(self._engine.collective_rpc("log_probs_before_truncation"))
        except Exception as error:
            raise EngineError(
                _NAME,
                f"vLLM refuses to start with the model at {self.policy.path}: {_first_line(error)}",
                "change the model or rollout.*, or choose rollout=transformers",
            ) from error
        self._check_positions = PositionCheck()

    def _push(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        engine = self._engine
        if self.pushes_adapters:
            named_tensors = self._base_weights()  # the adapters come beside them
        if not self.pushes_adapters or self._adapter is None:
            engine.collective_rpc("start_weight_update")
            with _tensors_for(self.policy, named_tensors) as update:
                engine.collective_rpc("update_weights", kwargs={"update_info": update})
            engine.collective_rpc("finish_weight_update")
        if self.pushes_adapters:
            self._push_adapters(version)
        # Each of the three holds results of the old weights; without the second vLLM would even go on with them.
        engine.reset_prefix_cache()
        engine.reset_encoder_cache()
        engine.reset_mm_cache()
        engine.set_weight_version(str(version))
        self.version = version
        self.num_pushes += 1

    def _push_adapters(self, version: int) -> None:
        from vllm.lora.request import LoRARequest

        folder = Path(tempfile.mkdtemp(prefix="ktr-adapters-"))
        try:
            self.policy.save_adapters(folder)
            previous, number = self._adapter, self.num_pushes + 1  # ids of adapters are never used twice
            self._adapter = LoRARequest(f"version-{version}", number, str(folder))
            if previous is not None:
                self._engine.remove_lora(previous.lora_int_id)
            self._engine.add_lora(self._adapter)
        finally:
            shutil.rmtree(folder)

    def _prompt_positions(self, *layout: Any) -> list[list[int]]:
        return self._engine.collective_rpc("prompt_positions", args=layout)[0]

    def _check_truncation(self, sampling: SamplingParams) -> None:
        if sampling.top_p < 1 and not self._untruncated:
            raise ConfigError(
                f"sampling.top_p={sampling.top_p}: this vLLM has no place to read log-probs before top-p; set it to 1"
            )

    @contextmanager
    def _awake(self) -> Iterator[None]:
        if not self.sleep:
            yield
            return
        self._engine.wake_up()
        try:
            yield
        finally:
            self._engine.sleep(level=1)

    def _record(self, what: str, error: BaseException) -> None:
        log.warning("%s %s: %s", _NAME, what, _first_line(error))
        self.incidents.append({"time": time.time(), "engine": _NAME, "what": what, "reason": _first_line(error)})


def _completion(output: Any) -> tuple[list[int], list[float], set[str]]:
    logps = [position[token].logprob for token, position in zip(output.token_ids, output.logprobs, strict=True)]
    return list(output.token_ids), logps, {span.version for span in output.weight_versions or ()}


@contextmanager
def _tensors_for(policy: Policy, named_tensors: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Any]]:
    """How one update reaches the worker: by reference within this process, as a file in shared memory beyond it."""
    from ktr.rollout.vllm.transfer import PolicyWeights, weights_file

    weights = PolicyWeights(policy, named_tensors)
    if os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0":
        yield {"tensors": list(weights)}
        return
    with weights_file(weights) as path:
        yield {"path": str(path)}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()]
    # pydantic says what is wrong in its second line, between a headline and the values
    line = " ".join(lines[:2]).split(" [type=")[0]
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__
