"""What each view of the prompt changes in the policy's input: embeddings, positions, visual features.

The tower is run once per medium and its features serve every view. Dropping the visual tokens needs none of them;
shuffling temporal patches permutes them, exactly, for the tower attends within a temporal patch only and knows no time.
Shuffling single frames makes new temporal patches, and blank frames and noise are new pixels: each costs one more tower
run per medium, not one per completion.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ktr.attribution.views import MaskedVideo, ShuffledFrames, View
from ktr.policy.family import Policy
from ktr.scoring.frame_orders import media_orders, order_generator
from ktr.scoring.shuffled_prompt import shuffled_prompt
from ktr.types import PromptInputs


@dataclass(frozen=True)
class PromptView:
    """A prompt as one view shows it: ids, positions and the features that fill its visual placeholders."""

    input_ids_P: Int[Tensor, " P"]
    positions_3P: Int[Tensor, "3 P"]
    features_NF: Float[Tensor, "N F"]
    next_position: int


def apply_view(
    view: View,
    policy: Policy,
    prompt: PromptInputs,
    features_NF: Float[Tensor, "N F"],
    seed: int,
) -> PromptView:
    """The prompt under ``view``. ``seed`` fixes what is random in it: the same seed gives the same order.

    What the view does it does to each medium on its own, and those that it does not change keep their features.
    """
    ids, positions, changes = prompt.input_ids_P, prompt.positions_3P, view.changes(prompt.media)
    next_position = int(positions.max()) + 1
    if not any(changes):
        return PromptView(ids, positions, features_NF, next_position)
    features = prompt.by_medium(features_NF)
    match view:
        case MaskedVideo(masking="zero"):
            kept_N = torch.cat(_kept(view.fraction, changes, features, seed))
            features_NF = features_NF * kept_N.to(features_NF.device)[:, None]
        case MaskedVideo(masking="blank_frames" | "noise_frames"):
            features_NF = _seen_anew(policy, prompt, features, changes, _hidden_frames(view, policy, prompt, seed))
        case MaskedVideo():
            is_visual_P = policy.is_visual(ids)
            kept_N = torch.cat(_kept(view.fraction, changes, features, seed))
            visible_P = torch.ones_like(ids, dtype=torch.bool)
            visible_P[is_visual_P] = kept_N.to(ids.device)
            features_NF = features_NF[kept_N.to(features_NF.device)]
            if view.masking == "drop":
                positions = positions[:, visible_P]
            else:  # as released: positions close up over the gap
                block_P = torch.full_like(ids, -1)
                block_P[is_visual_P] = torch.cat(
                    [torch.full((len(rows),), -1 if hit else i) for i, (rows, hit) in enumerate(zip(features, changes))]
                ).to(ids.device)
                positions = _closed_up(positions[:, visible_P], block_P[visible_P])
                next_position = int(positions.max()) + 1
            ids = ids[visible_P]
        case ShuffledFrames(granularity="temporal_patch"):
            orders = media_orders(view, prompt.media, policy.temporal_patch_size, seed)
            features_NF = torch.cat(
                [
                    rows if order is None else rows.unflatten(0, (len(order), -1))[order].flatten(0, 1)
                    for rows, order in zip(features, orders, strict=True)
                ]
            )
        case ShuffledFrames():
            shuffled = shuffled_prompt(prompt, view, policy.temporal_patch_size, seed)
            features_NF = _seen_anew(policy, prompt, features, changes, prompt.by_medium(shuffled.pixels_NC))
        case _:
            generator = order_generator(seed, 0)
            features_NF = torch.cat(
                [
                    view.rows(rows_NF, medium, generator) if changed else rows_NF
                    for rows_NF, medium, changed in zip(features, prompt.media, changes, strict=True)
                ]
            )
    return PromptView(ids, positions, features_NF, next_position)


def _kept(
    fraction: float, masked: Sequence[bool], rows: Sequence[Shaped[Tensor, "_ *_"]], seed: int
) -> list[Bool[Tensor, " _"]]:
    """True on the rows that stay visible: all, or of a masked medium a random subset of 1 - fraction, never all."""
    generator = order_generator(seed, 0)
    kept = [torch.ones(len(of_medium), dtype=torch.bool) for of_medium in rows]
    for kept_N in itertools.compress(kept, masked):
        num_masked = max(1, round(fraction * len(kept_N)))
        kept_N[torch.randperm(len(kept_N), generator=generator)[:num_masked]] = False
    return kept


def _hidden_frames(view: MaskedVideo, policy: Policy, prompt: PromptInputs, seed: int) -> list[Float[Tensor, "_ C"]]:
    """The pixels of each medium with a fraction of its temporal patches hidden: whole frames, as a player shows them.

    Pixels as the processor normalises them have mean 0 and deviation 1, and so has the noise.
    """
    generator = order_generator(seed, 0)
    patches = [
        pixels_NC.unflatten(0, (medium.grid_thw[0], -1))
        for medium, pixels_NC in zip(prompt.media, prompt.by_medium(prompt.pixels_NC), strict=True)
    ]
    hidden = []
    for pixels_TNC, kept_T in zip(
        patches, _kept(view.fraction, view.changes(prompt.media), patches, seed), strict=True
    ):
        if view.masking == "blank_frames":
            shown = policy.black_patch_C
        else:
            shown = torch.randn(pixels_TNC.shape, generator=generator)
        kept_T = kept_T.to(pixels_TNC.device)[:, None, None]
        hidden.append(torch.where(kept_T, pixels_TNC, shown.to(pixels_TNC)).flatten(0, 1))
    return hidden


def _seen_anew(
    policy: Policy,
    prompt: PromptInputs,
    features: Sequence[Float[Tensor, "_ F"]],
    changes: Sequence[bool],
    pixels: Sequence[Float[Tensor, "_ C"]],
) -> Float[Tensor, "N F"]:
    """The features with those of new ``pixels`` where a medium changes: the tower runs for these alone."""
    grids = [medium.grid_thw for medium in itertools.compress(prompt.media, changes)]
    new_MF = policy.run_tower(torch.cat(list(itertools.compress(pixels, changes))), grids)
    new = iter(new_MF.split([len(rows) for rows in itertools.compress(features, changes)]))
    return torch.cat([next(new) if changed else rows for rows, changed in zip(features, changes, strict=True)])


def _closed_up(positions_3P: Int[Tensor, "3 P"], block_P: Int[Tensor, " P"]) -> Int[Tensor, "3 P"]:
    """Positions without gaps: counted one by one, but that the tokens of one block (from 0 on) keep its shape."""
    blocks, lengths = block_P.unique_consecutive(return_counts=True)
    parts, start = [], 0
    for block, old_3N in zip(blocks.tolist(), positions_3P.split(lengths.tolist(), dim=1), strict=True):
        new_3N = old_3N - old_3N.min() if block >= 0 else torch.arange(old_3N.shape[1]).expand(3, -1)
        parts.append(new_3N + start)
        start += int(new_3N.max()) + 1
    return torch.cat(parts, dim=1)
