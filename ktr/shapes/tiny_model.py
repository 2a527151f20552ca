"""A Qwen2.5-VL of under a million parameters, of transformers' own classes, as an ordinary model folder."""

from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

from ktr.shapes.tokenizer import (
    CHAT_TEMPLATE,
    END_OF_TURN,
    IMAGE_PAD,
    PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
    build_tokenizer,
)

# The shipped policies, which experiment=shapes_sft and experiment=shapes_long_sft made.
COLD_START = Path(__file__).with_name("cold_start")
COLD_START_LONG = Path(__file__).with_name("cold_start_long")

FRAME_SIZE = 56
PATCH_SIZE, MERGE_SIZE, TEMPORAL_PATCH_SIZE = 14, 2, 2
HEAD_DIM = 32  # the smallest that vLLM runs
PIXEL_MEAN, PIXEL_STD = 0.35, 0.3
TOKENS_PER_SECOND = 2


def build_processor() -> Qwen2_5_VLProcessor:
    """Tokenizer and pixel processors for pictures of ``FRAME_SIZE``; frames are sampled before, by the reader."""
    pixels = {
        "size": {"shortest_edge": FRAME_SIZE**2, "longest_edge": FRAME_SIZE**2},
        "image_mean": [PIXEL_MEAN] * 3,
        "image_std": [PIXEL_STD] * 3,
        "patch_size": PATCH_SIZE,
        "merge_size": MERGE_SIZE,
        "temporal_patch_size": TEMPORAL_PATCH_SIZE,
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**pixels, do_sample_frames=False, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )


def build_config(vocabulary: dict[str, int]) -> Qwen2_5_VLConfig:
    """Hidden 128, 3 layers, 4 heads of 32; tower of 64, 2 layers."""
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": vocabulary[END_OF_TURN],
        "pad_token_id": vocabulary[PAD],
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": 128,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE,
        "temporal_patch_size": TEMPORAL_PATCH_SIZE,
        "tokens_per_second": TOKENS_PER_SECOND,
        "window_size": FRAME_SIZE,
        "fullatt_block_indexes": [0, 1],
        "initializer_range": 0.05,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=vocabulary[IMAGE_PAD],
        video_token_id=vocabulary[VIDEO_PAD],
        vision_start_token_id=vocabulary[VISION_START],
        vision_end_token_id=vocabulary[VISION_END],
        tie_word_embeddings=True,
    )


def build_model(seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A freshly initialised policy; the same weights for the same seed, whatever was drawn before."""
    vocabulary = build_tokenizer().get_vocab()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(build_config(vocabulary))
    model.generation_config.eos_token_id = vocabulary[END_OF_TURN]
    model.generation_config.pad_token_id = vocabulary[PAD]
    return model


def save_untrained(folder: Path, seed: int = 0) -> None:
    """Write model, tokenizer and processor into ``folder`` as ``from_pretrained`` reads them."""
    build_model(seed).save_pretrained(folder)
    build_processor().save_pretrained(folder)
