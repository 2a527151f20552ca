"""The tokenizer of a model folder, with a chat template that leaves the first tag of an answer to the policy."""

import re
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

TAG = "<think>"
ANY_MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of the folder at ``path``.

    Prompts of Qwen3-VL-…-Thinking end with an opened thought. The instruction, the rewards and demonstrations have the
    policy open it: the tag leaves the template, so that a folder with this tokenizer is asked as it was trained.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    while TAG in (template := tokenizer.chat_template or "") and _opens_thought(tokenizer):
        before, _, after = template.rpartition(TAG)
        tokenizer.chat_template = before + re.sub(r"\A(?:\\n|\s)+", "", after)  # a line's end may be written as \n
    return tokenizer


def _opens_thought(tokenizer: Any) -> bool:
    prompt = tokenizer.apply_chat_template(ANY_MESSAGES, tokenize=False, add_generation_prompt=True)
    return prompt.rstrip().endswith(TAG)
