r"""The soft reward for questions with several right answers (TW-GRPO, arXiv 2505.24718).

Prediction and truth are split at commas into sets of options. With ŷ the predicted and y the true set,

    r = |ŷ| / |y|   if ŷ ⊆ y, else 0

so that a part of the truth earns a part of the reward, and one wrong option costs all of it.

Assumption: order, spaces and repetitions do not matter. With one right answer the rule is equality.
"""


def soft_choice(answer: str, truth: str) -> float:
    """The share of the true options that ``answer`` names; 0 if it names a wrong one, or none."""
    named, right = options_in(answer), options_in(truth)
    return len(named) / len(right) if named and named <= right else 0.0


def options_in(text: str) -> frozenset[str]:
    """The options of a list with commas: "A, C" is {"A", "C"}."""
    return frozenset(option.strip() for option in text.split(",") if option.strip())
