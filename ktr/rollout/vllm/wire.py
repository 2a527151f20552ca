"""A question and its completions as JSON: vLLM's ``/inference/v1/generate``, token ids in, token ids out."""

import threading
from collections.abc import Mapping
from typing import Any

from vllm.entrypoints.scale_out.token_in_token_out.mm_serde import encode_mm_kwargs_item

from ktr.errors import EngineError
from ktr.policy.family import Policy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.servers.client import ServerFault
from ktr.rollout.vllm.requests import multimodal_input, rollout_group, sampling_fields
from ktr.types import PromptInputs, RolloutGroup

_one_at_a_time = threading.Lock()  # vLLM's encoder keeps a message's buffers in itself


def request_body(
    prompt: PromptInputs, sampling: SamplingParams, policy: Policy, seed: int, adapter: str | None
) -> dict[str, Any]:
    """One request for all completions of a prompt, the trainer's pixels in it."""
    request = multimodal_input(prompt, policy)
    with _one_at_a_time:
        kwargs = {
            modality: [encode_mm_kwargs_item(item) for item in items]
            for modality, items in request["mm_kwargs"].items()
        }
    placeholders = {
        modality: [{"offset": place.offset, "length": place.length} for place in places]
        for modality, places in request["mm_placeholders"].items()
    }
    return {
        "token_ids": request["prompt_token_ids"],
        "features": {"mm_hashes": request["mm_hashes"], "mm_placeholders": placeholders, "kwargs_data": kwargs},
        "sampling_params": sampling_fields(sampling, policy, seed),
        "return_token_ids": True,
        "model": adapter,
    }


def answered_group(
    prompt: PromptInputs,
    sampling: SamplingParams,
    policy: Policy,
    answer: Mapping[str, Any],
    engine: str,
    version: int,
) -> RolloutGroup:
    """The group from the server's answer.

    Raises ``ServerFault`` where it is incomplete or of other weights, ``EngineError`` where the server read another
    prompt, as it would do again.
    """
    if answer.get("prompt_token_ids") != prompt.input_ids_P.tolist():
        raise EngineError(
            engine,
            f"it read other tokens than question {prompt.question.id} holds",
            "use the vLLM of requirements-vllm.lock",
        )
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        outputs = [
            (
                choice["token_ids"],
                [token["logprob"] for token in choice["logprobs"]["content"]],
                {span["version"] for span in choice["weight_versions"] or ()},
            )
            for choice in choices
        ]
    except (KeyError, TypeError) as error:
        raise ServerFault(f"an answer without {error}") from error
    try:
        return rollout_group(prompt, sampling, policy, outputs, engine, version)
    except EngineError as error:
        raise ServerFault(error.reason) from error
