"""A small random Qwen2.5-VL folder with the 7B model's proportions, and random rollout groups for it to score."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.types import Completion, MediaFile, Medium, PromptInputs, RolloutGroup, VideoQuestion

SPECIAL_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|im_end|>",
)
VISION_START, VISION_END, _, IMAGE, VIDEO, EOS = range(len(SPECIAL_TOKENS))
PATCH, TEMPORAL_PATCH, MERGE, TOKENS_PER_SECOND = 14, 2, 2, 2


def write_model_folder(
    folder: Path,
    hidden: int = 256,
    layers: int = 2,
    vocabulary: int = 768,
    vision_hidden: int = 64,
    vision_layers: int = 2,
    patch: int = PATCH,
    seed: int = 0,
) -> Path:
    """Write weights, config, tokenizer and preprocessor; return ``folder``.

    As in the 7B model: an MLP of 5.25 hidden sizes, few key-value heads, a head of 8 % of the language model's work per
    token, and a tower of about a third of it. The default initialisation is scaled up, for at its size a random model
    is nearly linear and its views would hardly differ.
    """
    heads = hidden // 64
    text = dict(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=int(hidden * 5.25) // 16 * 16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
    )
    vision = dict(
        depth=vision_layers,
        hidden_size=vision_hidden,
        intermediate_size=int(vision_hidden * 2.67) // 16 * 16,
        num_heads=2,
        out_hidden_size=hidden,
        fullatt_block_indexes=[vision_layers - 1],
        window_size=8 * patch,
        patch_size=patch,
        spatial_merge_size=MERGE,
        temporal_patch_size=TEMPORAL_PATCH,
    )
    config = model_config(text, vision, tied=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim >= 2:
                    parameter.mul_(2.0)
                elif name.endswith("bias"):
                    parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    write_processor(folder, vocabulary, patch)
    return folder


def model_config(text: Mapping[str, Any], vision: Mapping[str, Any], tied: bool) -> Qwen2_5_VLConfig:
    """The config of a model of the given sizes, for ids of ``SPECIAL_TOKENS``."""
    half = text["hidden_size"] // text["num_attention_heads"] // 2
    of_text = dict(
        rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[half // 4, *[half * 3 // 8] * 2]),
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        use_sliding_window=False,
        bos_token_id=EOS,
        eos_token_id=EOS,
        pad_token_id=None,
    )
    return Qwen2_5_VLConfig(
        text_config={**text, **of_text},
        vision_config={**vision, "tokens_per_second": TOKENS_PER_SECOND},
        tie_word_embeddings=tied,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )


def write_processor(folder: Path, vocabulary: int, patch: int = PATCH) -> None:
    """Write a tokenizer of ``vocabulary`` words and the preprocessor's settings."""
    words = {word: i for i, word in enumerate([*SPECIAL_TOKENS, *(f"w{i}" for i in range(vocabulary))][:vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", additional_special_tokens=list(SPECIAL_TOKENS[:-1])
    ).save_pretrained(folder)
    settings = dict(
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
        patch_size=patch,
        temporal_patch_size=TEMPORAL_PATCH,
        merge_size=MERGE,
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def random_group(
    lengths: Sequence[int],
    media: Sequence[Medium] = (Medium("video", (8, 20, 24), 1.0),),
    text: tuple[int, int] = (20, 80),
    vocabulary: int = 768,
    patch: int = PATCH,
    seed: int = 1,
) -> RolloutGroup:
    """A prompt of ``text[0]`` words, random media with a word between them, ``text[1]`` words; random completions.

    A grid of 20 × 24 patches is 120 visual tokens per temporal patch: a 16:9 frame at 128 · 28² pixels.
    """
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> torch.Tensor:
        return torch.randint(len(SPECIAL_TOKENS), vocabulary, (count,), generator=generator)

    parts = [words(text[0])]
    for place, medium in enumerate(media):
        visual = [VIDEO if medium.kind == "video" else IMAGE] * (medium.num_patches // MERGE**2)
        parts += [words(min(place, 1)), torch.tensor([VISION_START, *visual, VISION_END])]
    input_ids_P = torch.cat([*parts, words(text[1])])
    visual_P = torch.isin(input_ids_P, torch.tensor([VIDEO, IMAGE]))
    prompt = PromptInputs(
        question=VideoQuestion(
            f"random-{seed}", "?", "free-form", "w0", tuple(MediaFile(Path("random"), medium.kind) for medium in media)
        ),
        input_ids_P=input_ids_P,
        positions_3P=mrope_positions(visual_P, media, MERGE, TOKENS_PER_SECOND),
        pixels_NC=torch.randn(
            sum(medium.num_patches for medium in media), 3 * TEMPORAL_PATCH * patch**2, generator=generator
        ),
        media=tuple(media),
    )
    completions = []
    for length in lengths:
        ids = torch.cat([words(length - 1), torch.tensor([EOS])])
        completions.append(Completion(ids, torch.zeros(length), "", "stop", 0))
    return RolloutGroup(prompt, tuple(completions))
