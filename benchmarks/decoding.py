"""What a token of the transformers engine costs beside transformers' own ``generate``, and what its cache copies.

    python -m benchmarks.decoding [--rounds 5]

One question of 1,152 visual tokens and 14 others, G = 8 greedy completions of 32 tokens, a random model of 8 layers
with 8 query and 2 key-value heads, fp32, one thread. ``generate`` gets 8 copies of the prompt. A step is all that
happens between the ends of two forwards: sampling, masks, the forward itself. Figures are medians of process time,
which other work on the machine moves less than wall time, over the steps of rounds that take turns.

Then two such questions, sampled: a completion ends after some 32 tokens, and has room for 512. The cache is copied
once, as packed prompts are laid apart, and in part when rows that have ended are dropped; both are given in steps.
"""

import argparse
import itertools
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from benchmarks.small_model import EOS, random_group, write_model_folder
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.decode_cache import DecodeCache
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.types import Medium, PromptInputs

NUM_COMPLETIONS, MAX_TOKENS = 8, 32
VIDEO, WORDS = Medium("video", (8, 24, 24), 1.0), (4, 8)


def ours(folder: Path, prompt: PromptInputs) -> Callable[[], list[float]]:
    """The engine, as a call that gives the seconds of each step."""
    policy = QwenVLPolicy(folder).eval()
    policy.banned_ids = torch.cat([policy.banned_ids, torch.tensor([EOS])])  # all completions are equally long
    engine, sampling = TransformersEngine(policy), SamplingParams(NUM_COMPLETIONS, MAX_TOKENS, temperature=0.0)
    return lambda: steps(policy.model, lambda: engine.generate([prompt], sampling, seeds=[0]))


def theirs(folder: Path, prompt: PromptInputs) -> Callable[[], list[float]]:
    """``generate``, as a call that gives the seconds of each step."""
    model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa").eval()
    ids_GP = prompt.input_ids_P.expand(NUM_COMPLETIONS, -1)
    inputs: dict[str, Tensor] = {
        "input_ids": ids_GP,
        "attention_mask": torch.ones_like(ids_GP),
        "mm_token_type_ids": (ids_GP == model.config.video_token_id).int() * 2,
        "pixel_values_videos": prompt.pixels_NC.repeat(NUM_COMPLETIONS, 1),
        "video_grid_thw": torch.tensor([VIDEO.grid_thw] * NUM_COMPLETIONS),
    }
    length = {"min_new_tokens": MAX_TOKENS, "max_new_tokens": MAX_TOKENS, "do_sample": False, "pad_token_id": EOS}
    return lambda: steps(model, lambda: model.generate(**inputs, **length))


def steps(model: Any, generate: Callable[[], Any]) -> list[float]:
    """Process seconds between the ends of the language model's forwards."""
    ends: list[float] = []
    hook = model.model.language_model.register_forward_hook(lambda *_: ends.append(time.process_time()))
    generate()
    hook.remove()
    assert len(ends) == MAX_TOKENS
    return [end - start for start, end in itertools.pairwise(ends)]


def copies(folder: Path, prompts: Sequence[PromptInputs]) -> dict[str, float]:
    """Process seconds of all copies of the cache in a rollout whose completions end at various places, by kind."""
    policy = QwenVLPolicy(folder).eval()
    policy.eos_token_ids = tuple(range(EOS, EOS + 24))  # of 768 words
    seconds = {"open_rows": 0.0, "keep_rows": 0.0}

    def timed(name: str) -> Any:
        method = getattr(DecodeCache, name)

        def call(*arguments: Any, **named: Any) -> None:
            start = time.process_time()
            method(*arguments, **named)
            seconds[name] += time.process_time() - start

        return patch.object(DecodeCache, name, call)

    with timed("open_rows"), timed("keep_rows"):
        TransformersEngine(policy).generate(prompts, SamplingParams(NUM_COMPLETIONS, 512), range(len(prompts)))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    disable_progress_bar()
    prompts = [random_group([1], [VIDEO], WORDS, seed=seed).prompt for seed in range(2)]
    with tempfile.TemporaryDirectory() as name:
        folder = write_model_folder(Path(name), hidden=512, layers=8)
        ways = {"engine": ours(folder, prompts[0]), "generate": theirs(folder, prompts[0])}
        seconds: dict[str, list[float]] = {way: [] for way in [*ways, "open_rows", "keep_rows"]}
        for _ in range(rounds):
            for way, run in ways.items():
                seconds[way] += run()
            for kind, found in copies(folder, prompts).items():
                seconds[kind].append(found)
    median = {way: statistics.median(found) for way, found in seconds.items()}
    result = {f"{way}_step_milliseconds": round(1000 * median[way], 1) for way in ways}
    result["engine/generate"] = round(median["engine"] / median["generate"], 2)
    result |= {f"{kind}/generate": round(median[kind] / median["generate"], 2) for kind in ("open_rows", "keep_rows")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
