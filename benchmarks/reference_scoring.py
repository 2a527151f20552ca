"""Scoring the way the released trainers of Video-R1 and Video-KTR do it: the slow twin of ``ktr.scoring``.

Every view is one plain forward pass of transformers' model over G copies of [prompt | completion], the video encoded G
times, with logits for every position, prompt included. Nothing here uses the packed path; benchmarks time it and the
parity tests compare with it. Positions are given, by the original M-RoPE rule: the released code leaves them to the
model.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from ktr.attribution.views import Factual, MaskedVideo, ShuffledFrames, View
from ktr.scoring.frame_orders import frame_order
from ktr.types import RolloutGroup, TokenScores

FRAMES_PER_PATCH = 2  # Qwen2.5-VL's temporal patch size


def reference_scores(
    model: Qwen2_5_VLForConditionalGeneration,
    group: RolloutGroup,
    view: View,
    seed: int = 0,
    banned_ids: Int[Tensor, " B"] | None = None,
    black_patch_C: Float[Tensor, " C"] | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
) -> TokenScores:
    """Scores of one group under one view; with gradient to the model's weights where grad mode is on.

    Masks whole media or nothing: ``fraction`` below 1 has no twin, nor has ``drop_compact`` of some media only.
    ``seed`` gives the order of shuffled frames.
    """
    assert not isinstance(view, MaskedVideo) or view.fraction == 1
    prompt, (num_completions, length) = group.prompt, group.completion_ids_GT.shape
    ids_GL = torch.cat([prompt.input_ids_P.expand(num_completions, -1), group.completion_ids_GT], dim=1)
    ids_GL, positions_3L = ids_GL.to(model.device), _append(prompt.positions_3P, length).to(model.device)
    visual_L = (ids_GL[0] == model.config.video_token_id) | (ids_GL[0] == model.config.image_token_id)
    pixels_NC = prompt.pixels_NC.to(model.device, model.dtype)
    pixels, changes = list(prompt.by_medium(pixels_NC)), view.changes(prompt.media)
    masked_L = torch.zeros_like(visual_L)
    masked = torch.tensor(changes).repeat_interleave(
        torch.tensor([len(rows) for rows in prompt.by_medium(visual_L.nonzero())])
    )
    masked_L[visual_L] = masked.to(model.device)
    inputs: dict[str, Tensor] = {"input_ids": ids_GL}
    match view:
        case Factual():
            pass
        case MaskedVideo(masking="zero"):
            embeddings_GLD = model.get_input_embeddings()(ids_GL)
            if not all(changes):
                grids = torch.tensor([medium.grid_thw for medium in prompt.media], device=model.device)
                features_MD = model.model.visual(torch.cat(pixels), grid_thw=grids).pooler_output
                embeddings_GLD = embeddings_GLD.masked_scatter(
                    visual_L[None, :, None], features_MD.repeat(num_completions, 1)
                )
            inputs = {"inputs_embeds": torch.where(masked_L[None, :, None], 0.0, embeddings_GLD)}
        case MaskedVideo(masking="blank_frames"):
            assert black_patch_C is not None, "blank frames need the folder's black patch"
            pixels = [black_patch_C.expand_as(p) if hit else p for p, hit in zip(pixels, changes, strict=True)]
        case MaskedVideo(masking="drop" | "drop_compact"):
            inputs["attention_mask"] = (~masked_L).long().expand_as(ids_GL)
            if view.masking == "drop_compact":
                assert all(changes)
                positions_3L = ((~visual_L).cumsum(0) - 1).clamp(min=0).expand(3, -1)
        case ShuffledFrames():
            generator = torch.Generator().manual_seed(seed * 1_000_003 + view.draw)
            pixels = [
                _shuffle(p, medium.grid_thw[0], view, generator) if hit else p
                for p, medium, hit in zip(pixels, prompt.media, changes, strict=True)
            ]
        case _:
            raise TypeError(f"no rule to apply the view {view!r}")
    if "input_ids" in inputs:
        for kind, pixels_key in (("video", "pixel_values_videos"), ("image", "pixel_values")):
            if of_kind := [i for i, medium in enumerate(prompt.media) if medium.kind == kind]:
                grids = torch.tensor([prompt.media[i].grid_thw for i in of_kind], device=model.device)
                inputs[pixels_key] = torch.cat([pixels[i] for i in of_kind]).repeat(num_completions, 1)
                inputs[f"{kind}_grid_thw"] = grids.repeat(num_completions, 1)

    positions = positions_3L[:, None].expand(3, num_completions, -1)
    logits_GLV = model(**inputs, position_ids=positions, use_cache=False).logits[:, :-1]
    if temperature != 1.0:
        logits_GLV = logits_GLV / temperature
    if banned_ids is not None:
        logits_GLV = logits_GLV.index_fill(2, banned_ids, -torch.inf)
    rows = zip(logits_GLV, ids_GL[:, 1:], strict=True)
    logps_GL = torch.stack([row.log_softmax(-1).gather(1, targets[:, None])[:, 0] for row, targets in rows])
    mask_GT, first = group.completion_mask_GT.to(model.device), prompt.num_tokens - 1
    entropies_GT = _entropies(logits_GLV[:, first:].detach(), mask_GT) if entropy else None
    return TokenScores(torch.where(mask_GT, logps_GL[:, first:], 0.0), entropies_GT)


@torch.no_grad()
def _entropies(logits_GTV: Float[Tensor, "G T V"], mask_GT: Bool[Tensor, "G T"]) -> Float[Tensor, "G T"]:
    probs, logps = logits_GTV.softmax(-1), logits_GTV.log_softmax(-1)
    return torch.where(mask_GT, -(probs * logps.clamp(min=-1e30)).sum(-1), 0.0)


def _append(positions_3P: Int[Tensor, "3 P"], length: int) -> Int[Tensor, "3 L"]:
    follow = int(positions_3P.max()) + 1 + torch.arange(length)
    return torch.cat([positions_3P, follow.expand(3, -1)], dim=1)


def _shuffle(
    pixels_NC: Float[Tensor, "N C"], num_patches: int, view: ShuffledFrames, generator: torch.Generator
) -> Float[Tensor, "N C"]:
    """The flattened patches of a video with its frames, or its temporal patches, in another order."""
    pixels = pixels_NC.unflatten(0, (num_patches, -1)).unflatten(2, (3, FRAMES_PER_PATCH, -1))
    if view.granularity == "temporal_patch":
        return pixels[frame_order(view.order, num_patches, generator)].reshape(pixels_NC.shape)
    shuffled = torch.empty_like(pixels)
    for new, old in enumerate(frame_order(view.order, num_patches * FRAMES_PER_PATCH, generator).tolist()):
        patch, slot = divmod(new, FRAMES_PER_PATCH)
        old_patch, old_slot = divmod(old, FRAMES_PER_PATCH)
        shuffled[patch, :, :, slot] = pixels[old_patch, :, :, old_slot]
    return shuffled.reshape(pixels_NC.shape)
