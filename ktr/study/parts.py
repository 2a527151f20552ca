"""What of a batch's tokens is a part, whose gradient is taken, and the rules that are sums of parts.

Parts: ``all``; each kind of word (disjoint, and together all); for each set of signals the tokens that exactly they
select (disjoint); as many random tokens as the union has, anywhere and at the same positions; other weightings; the
union at other ratios. A backward pass a part is enough for every rule, since a gradient is linear in the weights of its
tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.algorithm.weighting import KeyTokens, RandomTokens, TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import Selection, union
from ktr.types import TokenWeights

ALL, OTHER, RANDOM, REST = "all", "other words", "random", "all others"
SAME_PLACES = "random, same positions"
Rule = Mapping[str, float]  # how much of each part


@dataclass(frozen=True)
class PartMaker:
    """Cuts groups into parts. ``curve`` are selections by their ratio, ``oracles`` unions of kinds by name.

    ``others`` are weightings that are compared with the signals', from the factual pass and the signals' views alone.
    """

    kinds: Sequence[str]
    weighting: KeyTokens
    curve: Mapping[float, Selection]
    oracles: Mapping[str, Sequence[str]]
    others: Mapping[str, TokenWeighting] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every part, in a fixed order."""
        parts = [ALL, *self.kinds, OTHER, *self.others]
        if self.weighting.signals:
            parts += [*map(_exactly, self._sets()), RANDOM, SAME_PLACES, *map(at_ratio, self.curve)]
        return parts

    def of_group(
        self, scores: GroupScores, weights: TokenWeights, labels: Sequence[Sequence[str]] | None
    ) -> dict[str, Float[Tensor, "G T"]]:
        """How much of each token is in each part; ``labels`` are the kinds of the tokens, None where not known."""
        mask_GT = scores.completion_mask_GT
        parts = {ALL: mask_GT} | self._by_kind(mask_GT, labels)
        parts |= {name: weighting(scores).weights_GT for name, weighting in self.others.items()}
        if self.weighting.signals:
            for members in self._sets():
                chosen = [selected_GT ^ (name not in members) for name, selected_GT in weights.selections.items()]
                parts[_exactly(members)] = torch.stack(chosen).all(0) & mask_GT
            signals, selection = self.weighting.signals, self.weighting.selection
            parts[RANDOM] = RandomTokens(signals, selection)(scores).weights_GT
            parts[SAME_PLACES] = RandomTokens(signals, selection, within="position")(scores).weights_GT
            for ratio, chosen_by in self.curve.items():
                kept = [
                    chosen_by(of_one, mask_GT, scores.eos_GT) > chosen_by.floor for of_one in weights.scores.values()
                ]
                parts[at_ratio(ratio)] = union(kept)
        return {name: part.to(torch.float32) for name, part in parts.items()}

    def rules(self) -> dict[str, dict[str, Rule]]:
        """The rules by section: kinds of words, signals, controls, oracles, and the union's curve over ratios."""
        sections: dict[str, dict[str, Rule]] = {"kinds": {kind: {kind: 1.0} for kind in (*self.kinds, OTHER)}}
        if self.weighting.signals:
            sections["signals"] = {"+".join(members): self._union(members) for members in self._sets()}
            whole = self._union(tuple(self.weighting.signals))
            rest = {ALL: 1.0} | {part: -1.0 for part in whole}
            sections["controls"] = {RANDOM: {RANDOM: 1.0}, SAME_PLACES: {SAME_PLACES: 1.0}, REST: rest}
        if self.others:
            sections["others"] = {name: {name: 1.0} for name in self.others}
        sections["oracles"] = {name: dict.fromkeys(kinds, 1.0) for name, kinds in self.oracles.items()}
        if self.weighting.signals:
            sections["curve"] = {at_ratio(ratio): {at_ratio(ratio): 1.0} for ratio in self.curve}
        sections["whole"] = {ALL: {ALL: 1.0}}
        return sections

    def token_shares(self, num_tokens: Mapping[str, float]) -> dict[str, float]:
        """The share of the tokens that each rule takes, from the tokens of each part."""
        rules = {name: rule for of in self.rules().values() for name, rule in of.items()}
        shared = {name: sum(much * num_tokens[part] for part, much in rule.items()) for name, rule in rules.items()}
        return {name: share / max(1.0, num_tokens[ALL]) for name, share in shared.items()}

    def _by_kind(
        self, mask_GT: Bool[Tensor, "G T"], labels: Sequence[Sequence[str]] | None
    ) -> dict[str, Bool[Tensor, "G T"]]:
        names = [*self.kinds, OTHER]
        index_GT = torch.full(mask_GT.shape, len(self.kinds), device=mask_GT.device)
        for row, of_one in enumerate(labels or ()):
            places = [names.index(kind) if kind in self.kinds else len(self.kinds) for kind in of_one]
            index_GT[row, : len(places)] = torch.tensor(places, device=mask_GT.device)
        return {kind: (index_GT == place) & mask_GT for place, kind in enumerate(names)}

    def _sets(self) -> list[tuple[str, ...]]:
        names = tuple(self.weighting.signals)
        return [members for size in range(1, len(names) + 1) for members in combinations(names, size)]

    def _union(self, members: Sequence[str]) -> Rule:
        return {_exactly(held): 1.0 for held in self._sets() if set(held) & set(members)}


def at_ratio(ratio: float) -> str:
    return f"ratio {ratio:g}"


def _exactly(members: Sequence[str]) -> str:
    return f"exactly {'+'.join(members)}"
