"""Steps of TRL's plain GRPO, in TRL's environment: no KL term, no gradient checkpointing, which would cost it time.

Its trainer takes pictures and no videos. Each question has as many pictures as its video has temporal patches, of one
size, so that the tower and the language model get as many patches and tokens.
"""

import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch

# torchvision's wheel is another's than that of a CPU-only torch; see there. ktr itself can't be imported here.
_spec = spec_from_file_location("torchvision_ops", Path(__file__).parents[2] / "ktr/policy/torchvision_ops.py")
assert _spec is not None and _spec.loader is not None
_torchvision_ops = module_from_spec(_spec)
_spec.loader.exec_module(_torchvision_ops)
_torchvision_ops.declare()

from datasets import Dataset, Features, Image, List, Value  # pyright: ignore[reportMissingImports]
from PIL import Image as Picture
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports]

from .turns import FIRST_WORD, NUM_COMPLETIONS, NUM_PATCHES, VOCABULARY, WORDS, Size, Turns

TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)


class InTurn(TrainerCallback):
    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.turns.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.turns.end()


def questions(size: Size) -> Any:
    draw, pixels = np.random.default_rng(0), 14 * size.side
    rows: dict[str, list[Any]] = {"prompt": [], "images": []}
    for _ in range(size.questions):
        text = " ".join(f"w{word}" for word in draw.integers(0, VOCABULARY - FIRST_WORD, WORDS))
        rows["prompt"].append([{"role": "user", "content": text}])
        frames = draw.integers(0, 256, (NUM_PATCHES, pixels, pixels, 3), dtype=np.uint8)
        rows["images"].append([Picture.fromarray(frame) for frame in frames])
    features = {"prompt": List({"role": Value("string"), "content": Value("string")}), "images": List(Image())}
    return Dataset.from_dict(rows, features=Features(features))


def rewards(completions: list[Any], **_: Any) -> list[float]:
    """Unequal in each group, so that each is learned from."""
    return [float(place % NUM_COMPLETIONS) for place in range(len(completions))]


def main() -> None:
    folder, size, turns = sys.argv[1], Size.from_json(sys.argv[2]), Turns()
    torch.set_num_threads(1)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)
    with tempfile.TemporaryDirectory() as output:
        settings = GRPOConfig(
            output,
            per_device_train_batch_size=size.questions * NUM_COMPLETIONS,
            num_generations=NUM_COMPLETIONS,
            max_completion_length=size.max_tokens,
            generation_kwargs={"min_new_tokens": size.max_tokens},
            beta=0.0,
            learning_rate=1e-6,
            max_steps=1000,
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model, rewards, settings, questions(size), processing_class=processor, callbacks=[InTurn(turns)]
        )
        trainer._generate_single_turn = turns.generating(trainer._generate_single_turn)
        trainer.train()


if __name__ == "__main__":
    main()
