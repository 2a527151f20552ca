"""Rollouts with the policy's own transformers model, in the trainer's process.

The video is encoded once and the prompt prefilled, held and read once for its G completions; all prompts of a batch
decode together, and rows that have ended leave the batch.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ktr.policy.family import Policy
from ktr.policy.packed_row import GroupSpan, PackedLayout
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.decode_cache import DecodeCache, closed_up
from ktr.rollout.transformers.sampling import draw, sampled_distribution
from ktr.types import Completion, PromptInputs, RolloutGroup


class TransformersEngine:
    """Samples from ``policy`` itself, so that a weight push only has to count: the weights are the trainer's.

    ``max_rows`` completions decode at a time; a group is never split over two batches.
    """

    uses_policy_tower = True
    overlap, max_staleness, correction = 0, 0, None  # it is the policy that samples

    # Rows that have ended are dropped from the batch once this share of it is idle.
    _IDLE_SHARE = 0.25

    def __init__(self, policy: Policy, max_rows: int = 256):
        self.policy = policy
        self.max_rows = max_rows
        self.version = 0

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """One group of ``sampling.num_completions`` for each prompt; seed i alone fixes the draws of prompt i."""
        groups: list[RolloutGroup] = []
        step = max(1, self.max_rows // sampling.num_completions)
        for start in range(0, len(prompts), step):
            rows = slice(start, start + step)
            groups += self._generate_batch(prompts[rows], sampling, seeds[rows])
        return groups

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Count the version; the tensors are already here."""
        self.version = version

    def close(self) -> None:
        """Nothing to free: the policy is the trainer's."""

    def summary(self) -> dict[str, Any]:
        """The engine's name: nothing can happen to it that does not happen to the trainer."""
        return {"engine": "transformers", "incidents": []}

    def _generate_batch(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        policy, device = self.policy, self.policy.device
        num_rows = len(prompts) * sampling.num_completions
        cache = DecodeCache(_packed(prompts))
        ids_L = torch.cat([prompt.input_ids_P for prompt in prompts])
        positions_3L = torch.cat([prompt.positions_3P for prompt in prompts], dim=1)
        logits = policy.decode(ids_L[None], positions_3L[:, None], cache, torch.cat(policy.encode_video(prompts)))
        cache.open_rows(sampling.num_completions, capacity=sampling.max_tokens)
        logits = logits.repeat_interleave(sampling.num_completions, 0)
        next_positions = torch.stack([prompt.positions_3P.max() + 1 for prompt in prompts])
        next_positions = next_positions.to(device).repeat_interleave(sampling.num_completions)
        uniforms = torch.cat([_uniforms(seed, sampling) for seed in seeds]).to(device)

        tokens = torch.zeros(num_rows, sampling.max_tokens, dtype=torch.long, device=device)
        logps = torch.zeros(num_rows, sampling.max_tokens, device=device)
        lengths = torch.full((num_rows,), sampling.max_tokens, device=device)
        rows = torch.arange(num_rows, device=device)  # of the batch, those that still decode
        ended = torch.zeros(num_rows, dtype=torch.bool, device=device)
        eos_ids = torch.tensor(policy.eos_token_ids, device=device)
        for step in range(sampling.max_tokens):
            distribution = sampled_distribution(logits, policy.banned_ids, sampling.temperature)
            token = draw(distribution, sampling.temperature, sampling.top_p, uniforms[rows, step])
            tokens[rows, step] = token
            logps[rows, step] = distribution.gather(1, token[:, None])[:, 0]
            ends = torch.isin(token, eos_ids)
            lengths[rows[~ended & ends]] = step + 1
            ended = ended | ends
            num_live = int((~ended).sum())
            if num_live == 0 or step == sampling.max_tokens - 1:
                break
            if num_live <= (1 - self._IDLE_SHARE) * len(rows):
                live = closed_up(ended)
                rows, token, ended, next_positions = rows[live], token[live], ended[live], next_positions[live]
                cache.keep_rows(live)
            positions = (next_positions + step).expand(3, -1)[..., None]
            logits = policy.decode(token[:, None], positions, cache)
            cache.advance()
        return self._groups(prompts, sampling.num_completions, tokens.cpu(), logps.cpu(), lengths.tolist())

    def _groups(
        self, prompts: Sequence[PromptInputs], num_completions: int, tokens: Tensor, logps: Tensor, lengths: list[int]
    ) -> list[RolloutGroup]:
        completions = []
        for ids, token_logps, length in zip(tokens, logps, lengths, strict=True):
            ids = ids[:length].clone()
            stopped = int(ids[-1]) in self.policy.eos_token_ids
            text = self.policy.tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=False)
            reason = "stop" if stopped else "length"
            completions.append(Completion(ids, token_logps[:length].clone(), text, reason, self.version))
        return [
            RolloutGroup(prompt, tuple(completions[i * num_completions : (i + 1) * num_completions]))
            for i, prompt in enumerate(prompts)
        ]


def _packed(prompts: Sequence[PromptInputs]) -> PackedLayout:
    """One behind the other, without completions."""
    lengths = [prompt.num_tokens for prompt in prompts]
    stops = itertools.accumulate(lengths)
    spans = (GroupSpan(stop - length, length, ()) for stop, length in zip(stops, lengths, strict=True))
    return PackedLayout(tuple(spans))


def _uniforms(seed: int, sampling: SamplingParams) -> Tensor:
    """One number in [0, 1) for each token that the group may sample."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sampling.num_completions, sampling.max_tokens, dtype=torch.float64, generator=generator)
