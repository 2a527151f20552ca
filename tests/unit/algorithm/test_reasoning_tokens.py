"""All tokens count but the answer's, wherever a tokenizer cuts; and improbable ones count less."""

import pytest
import torch

from ktr.algorithm.likely_tokens import LikelyTokens
from ktr.algorithm.reasoning_tokens import ReasoningTokens, answer_tokens
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal
from ktr.types import TokenScores


class Pieces:
    """A tokenizer of given pieces of text: ids are their places."""

    def __init__(self, text: str) -> None:
        self.pieces = text.split("|")

    def decode(self, ids: list[int]) -> str:
        return "".join(self.pieces[i] for i in ids)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>| a| b|</think>|<answer>| red|</answer>|.", " red"),
        ("<think>|a|</think>|<|answer|>|B|</|answer|>", "B"),
        ("<think>|a|</think>|<|answer|>B|</|answer|>", ">B"),  # the tag's end and the letter are one token
        ("<think>|a|</think>|<|answer|>|the| car|s.</|answer|>", "the| car|s.</"),
        ("<think>|a|</think>\n|<answer>|\n|two| words|\n|</answer>", "two| words"),
        (
            "<think>|is it |<answer>|x|</answer>|?|</think>|<answer>|y|</answer>",
            "y",
        ),  # the one in a thought is a thought
        ("<answer>|first|</answer>|<answer>|second|</answer>", "first"),
        ("<think>|a|</think>|<answer>|cut| off", "cut| off"),
        ("<think>|a|</think>|<answer>|</answer>", ""),
        ("<think>|a|</think>|<answer>| |</answer>", ""),
        ("<think>|all of it", ""),
    ],
)
def test_the_tokens_of_the_answer_are_found(text: str, answer: str):
    tokenizer = Pieces(text)
    first, after = answer_tokens(tokenizer, [*range(len(tokenizer.pieces))])
    assert "|".join(tokenizer.pieces[first:after]) == answer


class Bytes:
    """A tokenizer of bytes: a prefix that ends within a character shows one sign for it."""

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")


@pytest.mark.parametrize("answer", ["A", "红", "红鳄", "🐊"])
def test_an_answer_holds_all_bytes_of_its_characters(answer: str):
    ids = list(f"<think>a</think><answer> {answer} </answer>".encode())
    first, after = answer_tokens(Bytes(), ids)
    assert bytes(ids[first:after]).decode().strip() == answer


def test_scores_without_a_rollout_are_refused():
    scores = TokenScores(torch.zeros(1, 3), torch.zeros(1, 3))
    group = GroupScores(scores, {}, torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="reads completions"):
        ReasoningTokens(Pieces(""), {"entropy": EntropySignal()}, TopRatio())(group)


def test_the_less_probable_counts_less_and_alpha_zero_is_grpo():
    logps_GT = torch.tensor([[0.0, -1.0, -50.0, -3.0]])
    mask_GT = torch.tensor([[True, True, True, False]])
    group = GroupScores(TokenScores(logps_GT, logps_GT), {}, mask_GT, ~mask_GT)
    weights_GT = LikelyTokens(0.3)(group).weights_GT
    torch.testing.assert_close(weights_GT, torch.tensor([[1.0, 0.7 + 0.3 * 0.36788, 0.7, 0.0]]))
    assert torch.equal(LikelyTokens(0.0)(group).weights_GT, mask_GT.float())
    with pytest.raises(ValueError, match="alpha=2"):
        LikelyTokens(2.0)
