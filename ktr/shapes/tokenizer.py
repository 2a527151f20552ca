"""A word-level tokenizer for the world, with Qwen's special tokens and chat form."""

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split
from transformers import AddedToken, PreTrainedTokenizerFast

from ktr.shapes.questions import LETTERS, PHRASES
from ktr.shapes.reasoning import vocabulary

END_OF_TURN, PAD, UNKNOWN = "<|im_end|>", "<|endoftext|>", "<|unk|>"
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL_TOKENS = (PAD, "<|im_start|>", END_OF_TURN, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD, UNKNOWN)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
# For chat roles, for instructions that a prompt may add, and "nothing" for patches that show nothing.
PROMPT_WORDS = (
    "system user assistant Options : think first , then answer with one word a number the letter of the right option . "
    "nothing"
)

# An option's letter with its dot is one word, so that the letter stands right before what it names.
WORD_PATTERN = r"^[A-Z]\.$|\w+|[^\w\s]"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant\n{% endif %}"
)


def all_words() -> list[str]:
    """The vocabulary in the order of its ids: special tokens, tags, words."""
    phrases = " ".join(" ".join(phrase) for phrase in PHRASES.values()).replace("{}", "")
    options = [f"{letter}." for letter in LETTERS]
    prompt = [*options, *phrases.split(), *PROMPT_WORDS.split()]
    return list(dict.fromkeys([*SPECIAL_TOKENS, *TAGS, *vocabulary(), *prompt]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word, mark and tag. Decoding joins tokens with spaces: the answer is what stands between the
    answer tags, stripped."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(all_words())}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Sequence([Split(Regex(r"\s+"), "removed"), Split(Regex(WORD_PATTERN), "isolated")])
    # The tags are text, not control: they must survive decoding without special tokens.
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in (PAD, END_OF_TURN, UNKNOWN)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
