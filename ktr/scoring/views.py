"""What each view of the prompt changes in the policy's input: embeddings, positions, visual features.

The tower is run once per video and its features serve every view. Dropping the visual tokens needs none of them;
shuffling temporal patches permutes them, exactly, for the tower attends within a temporal patch only and knows no time.
Shuffling single frames makes new temporal patches, and blank frames and noise are new pixels: each costs one more tower
run per video, not one per completion.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ktr.attribution.views import Factual, MaskedVideo, ShuffledFrames, View
from ktr.policy.family import Policy
from ktr.scoring.frame_orders import frame_order, order_generator
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
    """The prompt under ``view``. ``seed`` fixes what is random in it: the same seed gives the same order."""
    ids, positions = prompt.input_ids_P, prompt.positions_3P
    next_position = int(positions.max()) + 1
    match view:
        case Factual():
            pass
        case MaskedVideo(masking="zero"):
            features_NF = features_NF * _kept(view, features_NF, seed)[:, None]
        case MaskedVideo(masking="blank_frames" | "noise_frames"):
            # A fraction of the temporal patches is hidden: whole frames, as a player would show them.
            kept = _kept(view, torch.empty(prompt.grid_thw[0], 1), seed).to(prompt.pixels_NC.device)
            pixels_TNC = prompt.pixels_NC.unflatten(0, (prompt.grid_thw[0], -1))
            shown = policy.black_patch_C if view.masking == "blank_frames" else _noise(pixels_TNC, seed)
            pixels_NC = torch.where(kept[:, None, None], pixels_TNC, shown.to(pixels_TNC)).flatten(0, 1)
            features_NF = policy.run_tower(pixels_NC, [prompt.grid_thw])
        case MaskedVideo():
            visible = torch.ones_like(ids, dtype=torch.bool)
            visible[policy.is_visual(ids)] = _kept(view, features_NF, seed).to(ids.device)
            features_NF = features_NF[visible[policy.is_visual(ids)].to(features_NF.device)]
            ids, positions = ids[visible], positions[:, visible]
            if view.masking == "drop_compact":  # as released: positions close up over the gap
                positions = torch.arange(len(ids)).expand(3, -1)
                next_position = len(ids)
        case ShuffledFrames(granularity="temporal_patch"):
            order = frame_order(view.order, prompt.grid_thw[0], order_generator(seed, view.draw))
            features_NF = features_NF.unflatten(0, (prompt.grid_thw[0], -1))[order].flatten(0, 1)
        case ShuffledFrames():
            shuffled = shuffled_prompt(prompt, view, policy.temporal_patch_size, seed)
            features_NF = policy.run_tower(shuffled.pixels_NC, [prompt.grid_thw])
        case _:
            raise TypeError(f"no rule to apply the view {view!r}")
    return PromptView(ids, positions, features_NF, next_position)


def _kept(view: MaskedVideo, rows: Float[Tensor, "N _"], seed: int) -> Tensor:
    """True on the rows that a partial masking leaves visible: a random subset of 1 - fraction of them, never all."""
    num_masked = max(1, round(view.fraction * len(rows)))
    kept = torch.ones(len(rows), dtype=torch.bool)
    kept[torch.randperm(len(rows), generator=order_generator(seed, 0))[:num_masked]] = False
    return kept.to(rows.device)


def _noise(pixels: Float[Tensor, "T N C"], seed: int) -> Float[Tensor, "T N C"]:
    """Pixels as the processor normalises them have mean 0 and deviation 1, and so has the noise."""
    return torch.randn(pixels.shape, generator=order_generator(seed, 0))
