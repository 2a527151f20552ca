"""How much of the completions the signals select, and how much they agree (Video-KTR, arXiv 2601.19686, analysis).

Fractions are of the completion tokens. The overlap of two signals is the Jaccard index |A ∩ B| / |A ∪ B|, 0 where both
select nothing. Each value is a ratio of counts over the tokens given, so pass several groups at once by joining them on
the first axis, or average per group.
"""

from collections.abc import Mapping
from itertools import combinations

from jaxtyping import Bool, Float
from torch import Tensor

from ktr.attribution.selection import union


def selection_statistics(
    selections: Mapping[str, Bool[Tensor, "G T"]], completion_mask_GT: Bool[Tensor, "G T"]
) -> dict[str, Float[Tensor, ""]]:
    """Metrics by name: each signal's fraction, the union's, and each pair's Jaccard index; empty without signals."""
    if not selections:
        return {}
    num_tokens = completion_mask_GT.sum().clamp(min=1)
    statistics = {f"attribution/{name}/selected_fraction": s.sum() / num_tokens for name, s in selections.items()}
    statistics["attribution/union_fraction"] = union(selections.values()).sum() / num_tokens
    for (name_a, a_GT), (name_b, b_GT) in combinations(selections.items(), 2):
        jaccard = (a_GT & b_GT).sum() / (a_GT | b_GT).sum().clamp(min=1)
        statistics[f"attribution/overlap/{name_a}_{name_b}"] = jaccard
    return statistics
