"""A tiny random folder of each family, of transformers' own classes, and questions about random frames for it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, ProcessorMixin
from transformers.models.qwen2_vl import Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from transformers.models.qwen3_vl import Qwen3VLVideoProcessor

from ktr.data.prompts import PromptTemplate
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.policy.encoder import Encoder
from ktr.policy.families import make_encoder
from ktr.policy.family import Policy
from ktr.shapes.tiny_model import PIXEL_MEAN, PIXEL_STD
from ktr.shapes.tokenizer import END_OF_TURN, IMAGE_PAD, PAD, VIDEO_PAD, VISION_END, VISION_START, build_tokenizer
from ktr.types import WHOLE, Clip, Completion, MediaFile, RolloutGroup, VideoQuestion

CLASSES = {
    "qwen2_vl": ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration", "Qwen2VLProcessor"),
    "qwen2_5_vl": ("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor"),
    "qwen3_vl": ("Qwen3VLConfig", "Qwen3VLForConditionalGeneration", "Qwen3VLProcessor"),
    "qwen3_vl_moe": ("Qwen3VLMoeConfig", "Qwen3VLMoeForConditionalGeneration", "Qwen3VLProcessor"),
}
FAMILIES = tuple(CLASSES)
SEVERAL = ("4x64x64", "1x96x64", "2x64x96")  # two videos and a picture, for ``question_about``
SECONDS = ("<", ">", "seconds", *"456789")  # of what Qwen3-VL writes the world has no words for these


def patch_size(family: str) -> int:
    return 16 if family.startswith("qwen3") else 14


def frame_size(family: str) -> int:
    """Pixels of a side of a frame with two by two visual tokens."""
    return 4 * patch_size(family)


def tokenizer() -> PreTrainedTokenizerFast:
    """The world's, which also knows how seconds are written."""
    known = build_tokenizer()
    content = json.loads(known.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for word in SECONDS:
        vocabulary.setdefault(word, len(vocabulary))
    known._tokenizer = Tokenizer.from_str(json.dumps(content))
    return known


def processor(family: str) -> ProcessorMixin:
    video = Qwen3VLVideoProcessor if family.startswith("qwen3") else Qwen2VLVideoProcessor
    pixels: dict[str, Any] = {
        "size": {"shortest_edge": frame_size(family) ** 2, "longest_edge": frame_size(family) ** 2},
        "image_mean": [PIXEL_MEAN] * 3,
        "image_std": [PIXEL_STD] * 3,
        "patch_size": patch_size(family),
        "merge_size": 2,
        "temporal_patch_size": 2,
    }
    words = tokenizer()
    return getattr(transformers, CLASSES[family][2])(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=words,
        video_processor=video(**pixels, do_sample_frames=False, cap_pixels_per_frame=False),
        chat_template=words.chat_template,
    )


def config(family: str, vocabulary: dict[str, int], hidden: int = 64) -> Any:
    """Two layers, two heads of 32, two layers of a tower of 32."""
    text: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": family == "qwen3_vl",
        "bos_token_id": None,
        "eos_token_id": vocabulary[END_OF_TURN],
        "pad_token_id": vocabulary[PAD],
    }
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": patch_size(family), "spatial_merge_size": 2}
    match family:
        case "qwen2_vl":
            vision |= {"embed_dim": 32, "hidden_size": hidden, "mlp_ratio": 2}
        case "qwen2_5_vl":
            vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": hidden, "tokens_per_second": 2}
            vision |= {"window_size": 8 * 14, "fullatt_block_indexes": [1]}
        case _:
            text["rope_parameters"]["mrope_interleaved"] = True
            vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": hidden}
            vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    if family == "qwen3_vl_moe":
        # Published configurations say norm_topk_prob, which vLLM reads and transformers has no field for.
        text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "norm_topk_prob": True}
    return getattr(transformers, CLASSES[family][0])(
        text_config=text,
        vision_config=vision,
        image_token_id=vocabulary[IMAGE_PAD],
        video_token_id=vocabulary[VIDEO_PAD],
        vision_start_token_id=vocabulary[VISION_START],
        vision_end_token_id=vocabulary[VISION_END],
        tie_word_embeddings=family == "qwen3_vl",
    )


def save_family(family: str, folder: Path, seed: int = 0, **sizes: Any) -> Path:
    """Weights, config, tokenizer and processor; weights scaled up, so that distributions are far from uniform."""
    files = processor(family)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = getattr(transformers, CLASSES[family][1])(config(family, files.tokenizer.get_vocab(), **sizes))
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.mul_(3.0)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
    model.generation_config.eos_token_id = model.config.text_config.eos_token_id
    model.generation_config.pad_token_id = model.config.text_config.pad_token_id
    model.save_pretrained(folder)
    files.save_pretrained(folder)
    return folder


class RandomFrames(VideoReader):
    """Frames of a video or picture that is on no disk; its name says how many and how large, as in ``6x64x96``."""

    def __init__(self, fps: float = 3.0):
        super().__init__(VideoSettings(num_frames=64, min_pixels=64 * 64, max_pixels=96 * 96))
        self.fps = fps

    def read(self, path: Path, clip: Clip = WHOLE) -> DecodedVideo:
        frames = _frames(path)
        indices = tuple(7 * i for i in range(len(frames)))
        return DecodedVideo(frames, indices, self.fps, 7 * len(frames), path)

    def read_image(self, path: Path) -> np.ndarray:
        return _frames(path)[0]


def _frames(path: Path) -> np.ndarray:
    num_frames, height, width = map(int, path.name.split("x"))
    generator = np.random.default_rng(num_frames * height + width)
    return generator.integers(0, 255, (num_frames, height, width, 3), dtype=np.uint8)


def encoder_of(folder: Path, fps: float = 3.0) -> Encoder:
    return make_encoder(folder, PromptTemplate("", {}), RandomFrames(fps), max_prompt_tokens=900)


def question_about(*names: str, problem: str = "what color is first ?") -> VideoQuestion:
    """A question about media that ``RandomFrames`` reads; one frame is a picture."""
    media = tuple(MediaFile(Path(name), "image" if name.startswith("1x") else "video") for name in names)
    return VideoQuestion("-".join(names), problem, "free-form", "red", media)


def group_about(encoder: Encoder, policy: Policy, lengths: Sequence[int], *names: str) -> RolloutGroup:
    """A question about media with random completions."""
    generator = torch.Generator().manual_seed(sum(lengths))
    banned = set(policy.banned_ids.tolist())
    words = torch.tensor([word for word in range(len(policy.tokenizer)) if word not in banned])
    draws = (words[torch.randint(len(words), (length,), generator=generator)] for length in lengths)
    completions = tuple(Completion(ids, torch.zeros(len(ids)), "", "length", 0) for ids in draws)
    return RolloutGroup(encoder.encode(question_about(*names)), completions)
