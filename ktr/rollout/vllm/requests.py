"""What crosses the border to vLLM: a prompt with the trainer's own pixels goes in, completions come out.

vLLM's processor is passed by. vLLM gets token ids with their placeholders expanded, the patches, the grid and the time
between temporal patches, which is all that its model reads: the trainer's decoding and resizing are the only ones, and
what both see is the same by construction. What vLLM makes of it, positions above all, is compared.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import BatchFeature
from vllm.inputs import mm_input
from vllm.model_executor.models.qwen2_vl import _create_qwen2vl_field_factory  # the layout of Qwen's fields
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems, PlaceholderRange
from vllm.sampling_params import RequestOutputKind
from vllm.sampling_params import SamplingParams as VLLMSamplingParams

from ktr.errors import EngineError
from ktr.policy.family import Policy
from ktr.rollout.engine import SamplingParams
from ktr.types import Completion, MediaKind, PromptInputs, RolloutGroup

# exp of it is exactly 0 beside any real logit, and unlike -inf it survives JSON.
_BAN = -1e9
# By modality, the names of the pixels and of their grids.
_TENSORS = {"video": ("pixel_values_videos", "video_grid_thw"), "image": ("pixel_values", "image_grid_thw")}


@dataclass(frozen=True)
class Item:
    """A medium as vLLM takes it: its patches with their grid, and where its placeholders stand, without a gap.

    ``seconds`` is the time between temporal patches, where the family's positions are made of it.
    """

    pixels_NC: Float[Tensor, "N C"]
    grid_thw: tuple[int, int, int]
    seconds: float | None
    place: PlaceholderRange

    @property
    def content_hash(self) -> str:
        """The key of vLLM's encoder and prefix caches."""
        digest = hashlib.blake2b(self.pixels_NC.contiguous().view(torch.uint8).numpy().data, digest_size=16)
        digest.update(f"{self.pixels_NC.dtype}{self.grid_thw}{self.seconds}".encode())
        return digest.hexdigest()


def items_of(prompt: PromptInputs, policy: Policy) -> tuple[MediaKind, list[Item]]:
    """The media of a prompt in order, all as videos, or all as pictures.

    To the tower and to positions a picture is a video of one temporal patch. vLLM encodes a batch's pictures and videos
    apart, and its adapters of the tower then lose count. Where words stand between the temporal patches of a video,
    each patch is a picture: the protocol of its servers knows no gaps.
    """
    (visual_N,) = torch.where(policy.is_visual(prompt.input_ids_P))
    items = []
    for medium, pixels_NC, places in zip(
        prompt.media, prompt.by_medium(prompt.pixels_NC), prompt.by_medium(visual_N), strict=True
    ):
        num_patches, height, width = medium.grid_thw
        num_parts = num_patches if policy.time_in == "text" else 1
        seconds = medium.seconds_per_patch if policy.time_in == "positions" else None
        for rows_NC, where in zip(pixels_NC.chunk(num_parts), places.chunk(num_parts), strict=True):
            place = PlaceholderRange(offset=int(where[0]), length=len(where))
            items.append(Item(rows_NC, (num_patches // num_parts, height, width), seconds, place))
    return "image" if policy.time_in == "text" else "video", items


def multimodal_input(prompt: PromptInputs, policy: Policy) -> Any:
    """vLLM's processed input of one prompt: ids, and tensors, content hashes and places of its media."""
    modality, items = items_of(prompt, policy)
    pixels_key, grid_key = _TENSORS[modality]
    tensors = {
        pixels_key: torch.cat([item.pixels_NC for item in items]),
        grid_key: torch.tensor([item.grid_thw for item in items]),
    }
    if policy.time_in == "positions":
        tensors["second_per_grid_ts"] = torch.tensor([item.seconds for item in items], dtype=torch.float64)
    fields = _create_qwen2vl_field_factory(int(policy.merge_area**0.5))(tensors)
    fields = dict(fields, second_per_grid_ts=MultiModalFieldConfig.batched("video", keep_on_cpu=True))
    return mm_input(
        prompt_token_ids=prompt.input_ids_P.tolist(),
        mm_kwargs=MultiModalKwargsItems.from_hf_inputs(BatchFeature(tensors), fields),
        mm_hashes={modality: [item.content_hash for item in items]},
        mm_placeholders={modality: [item.place for item in items]},
    )


def sampling_fields(sampling: SamplingParams, policy: Policy, seed: int) -> dict[str, Any]:
    """The fields of vLLM's SamplingParams, as plain values. At temperature 0 one completion stands for all of them."""
    return {
        "n": sampling.num_completions if sampling.temperature > 0 else 1,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if sampling.temperature > 0 else 1.0,
        "max_tokens": sampling.max_tokens,
        "seed": seed,
        "logprobs": 0,  # those of the sampled tokens only
        "logit_bias": {int(token): _BAN for token in policy.banned_ids.tolist()},
        "stop_token_ids": list(policy.eos_token_ids),
        "ignore_eos": True,  # what ends a completion is said above, and no other reading of the folder adds to it
        "detokenize": False,
    }


def sampling_params(sampling: SamplingParams, policy: Policy, seed: int) -> VLLMSamplingParams:
    fields = sampling_fields(sampling, policy, seed)
    return VLLMSamplingParams(**fields, output_kind=RequestOutputKind.FINAL_ONLY)


def rollout_group(
    prompt: PromptInputs,
    sampling: SamplingParams,
    policy: Policy,
    outputs: Sequence[tuple[Sequence[int], Sequence[float], set[str]]],
    engine: str,
    version: int,
) -> RolloutGroup:
    """The group of one prompt from (token ids, log-probs, weight versions) of each completion.

    Raises ``EngineError`` where a completion is missing, cut off, or sampled from any weights but ``version``.
    """
    remedy = "the question is asked again on a fresh engine"
    expected = sampling.num_completions if sampling.temperature > 0 else 1
    if len(outputs) != expected:
        raise EngineError(engine, f"{len(outputs)} of {expected} completions of question {prompt.question.id}", remedy)
    completions = []
    for token_ids, logps, versions in outputs:
        if not token_ids or len(token_ids) != len(logps):
            raise EngineError(engine, f"a completion of question {prompt.question.id} has no tokens", remedy)
        if versions != {str(version)}:
            raise EngineError(engine, f"sampled from weights {sorted(versions)}, the policy is at {version}", remedy)
        stopped = token_ids[-1] in policy.eos_token_ids
        if not stopped and len(token_ids) < sampling.max_tokens:
            raise EngineError(engine, f"a completion of question {prompt.question.id} was cut off", remedy)
        text = policy.tokenizer.decode(token_ids[:-1] if stopped else token_ids, skip_special_tokens=False)
        completions.append(
            Completion(
                torch.tensor(token_ids),
                torch.tensor(logps, dtype=torch.float32),
                str(text),
                "stop" if stopped else "length",
                version,
            )
        )
    repeats = sampling.num_completions // expected
    return RolloutGroup(prompt, tuple(completions) * repeats)


def check_fits(prompts: Iterable[PromptInputs], sampling: SamplingParams, max_model_len: int, engine: str) -> None:
    """Raises ``EngineError`` before anything is sent where a prompt and its answer exceed the engine's context."""
    longest = max(prompt.num_tokens for prompt in prompts)
    if longest + sampling.max_tokens > max_model_len:
        raise EngineError(
            engine,
            f"a prompt of {longest} tokens and {sampling.max_tokens} of answer exceed max_model_len={max_model_len}",
            "raise rollout.max_model_len, or lower encoder.max_prompt_tokens or sampling.max_tokens",
        )


class PositionCheck:
    """Asserts that an engine's model places a prompt's tokens where the trainer does.

    Positions depend on nothing but the layout of a prompt, so that each layout is compared once.
    """

    def __init__(self) -> None:
        self._known: set[tuple[Any, ...]] = set()

    def __call__(
        self,
        prompts: Iterable[PromptInputs],
        policy: Policy,
        prompt_positions: Callable[..., list[list[int]]],
        engine: str,
    ) -> None:
        """``prompt_positions`` is the worker's method of that name. Raises ``EngineError`` where the two differ."""
        for prompt in prompts:
            modality, items = items_of(prompt, policy)
            media = [(modality, item.place.offset, item.grid_thw, item.seconds) for item in items]
            key = (prompt.num_tokens, *media)
            if key in self._known:
                continue
            if prompt.positions_3P.tolist() != prompt_positions(prompt.num_tokens, media):
                raise EngineError(
                    engine,
                    f"it gives the prompt of question {prompt.question.id} other M-RoPE positions than the trainer",
                    "use the vLLM of requirements-vllm.lock: log-probs of the two would not be of one policy",
                )
            self._known.add(key)
