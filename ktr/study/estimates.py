r"""Signal and noise of rules, from the inner products of their gradients in independent batches.

With g_S the gradient of rule S in a batch, g that of all tokens, and b ≠ c two batches,

    ⟨E g_S, E g⟩ ≈ mean over b ≠ c of ⟨g_S(b), g(c)⟩               no noise meets itself: the estimate has no bias
    tr Cov g_S   ≈ mean over b of ‖g_S(b)‖² − mean over b ≠ c of ⟨g_S(b), g_S(c)⟩

the first being what halves of the batches give, averaged over every way to halve them. Intervals: 95 %, percentiles of
a bootstrap that draws batches, which hold different questions; a batch that is drawn twice is not paired with itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from ktr.errors import ConfigError, MissingData
from ktr.study.parts import ALL, Rule

MIN_BATCHES = 8  # fewer draws of fewer batches are no distribution
DRAWS, CONFIDENCE = 2000, 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; NaN where the data does not bound it, infinite where it may be."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RuleEstimates:
    """What a rule keeps of the whole gradient.

    ``signal`` ⟨E g_S, E g⟩ / ‖E g‖², ``noise`` tr Cov g_S / tr Cov g, ``signal_to_noise`` ‖E g_S‖² / tr Cov of one
    group, ``groups`` the number of groups at which that is 1, ``lost`` ‖E g − E g_S‖² / ‖E g‖², ``cosine`` of E g_S and
    E g.
    """

    signal: Estimate
    noise: Estimate
    signal_to_noise: Estimate
    groups: Estimate
    lost: Estimate
    cosine: Estimate


@dataclass(frozen=True)
class Whole:
    """The whole gradient: its squared expectation, and how many groups it takes to tell it from zero.

    ``is_told`` is False where the interval of ``signal`` holds zero: then shares of it mean nothing.
    """

    signal: Estimate
    is_told: bool
    groups_to_tell: float


def require_batches(num_groups: int, groups_per_batch: int) -> int:
    """The number of batches. Raises ``ConfigError`` where they are too few for an interval."""
    if num_groups < MIN_BATCHES * groups_per_batch:
        raise ConfigError(
            f"num_groups={num_groups}: an interval needs {MIN_BATCHES} batches of {groups_per_batch} groups "
            f"(data.questions_per_step); give {MIN_BATCHES * groups_per_batch} at least"
        )
    return num_groups // groups_per_batch


class Estimator:
    """Estimates of rules over ``parts`` from ``products_PBPB``. Raises ``MissingData`` where no gradient is there."""

    def __init__(
        self, parts: Sequence[str], products_PBPB: Float[np.ndarray, "P B P B"], groups_per_batch: int, seed: int = 0
    ) -> None:
        self.parts, self.products_PBPB, self.groups_per_batch = list(parts), products_PBPB, groups_per_batch
        num_batches = products_PBPB.shape[1]
        require_batches(num_batches * groups_per_batch, groups_per_batch)
        draws_RB = np.random.default_rng(seed).multinomial(num_batches, np.full(num_batches, 1 / num_batches), DRAWS)
        self._draws_RB = np.concatenate([np.ones((1, num_batches)), draws_RB])
        self._whole_P = self._coefficients({ALL: 1.0})
        if not np.einsum("pbqb,p,q->", products_PBPB, self._whole_P, self._whole_P) > 0:
            raise MissingData(
                "every group has completions of equal reward, so that no gradient is there to study: sample at a "
                "higher sampling.temperature, take more sampling.num_completions, or another policy (model.path)"
            )
        self._whole_R, self._whole_noise_R = self._moments(self._whole_P)

    def whole(self) -> Whole:
        signal = _estimate(self._whole_R)
        num_groups = self.products_PBPB.shape[1] * self.groups_per_batch
        # The standard error falls as 1 / n while noise dominates.
        enough = num_groups * (signal.value - signal.low) / signal.value if signal.value > 0 else np.inf
        return Whole(signal, signal.low > 0, enough)

    def of(self, rule: Rule) -> RuleEstimates:
        chosen_P = self._coefficients(rule)
        own_R, noise_R = self._moments(chosen_P)
        shared_R = self._crossed(self._between(chosen_P, self._whole_P))
        lost_R, _ = self._moments(self._whole_P - chosen_P)
        of_group_R = noise_R * self.groups_per_batch
        with np.errstate(divide="ignore", invalid="ignore"):
            return RuleEstimates(
                signal=self._share(shared_R),
                noise=_estimate(noise_R / self._whole_noise_R),
                signal_to_noise=_estimate(own_R / of_group_R),
                groups=_estimate(np.where(own_R > 0, of_group_R / own_R, np.inf)),
                lost=self._share(lost_R),
                cosine=_estimate(shared_R / np.sqrt(np.where(own_R > 0, own_R, np.nan) * self._whole_R)),
            )

    def _share(self, values_R: Float[np.ndarray, " R"]) -> Estimate:
        """Of the whole's squared expectation; unbounded where that may be zero."""
        if self._whole_R[0] <= 0:
            return Estimate(np.nan, np.nan, np.nan)
        share = _estimate(values_R / self._whole_R)
        return share if self.whole().is_told else Estimate(share.value, -np.inf, np.inf)

    def _coefficients(self, rule: Rule) -> Float[np.ndarray, " P"]:
        return np.array([rule.get(part, 0.0) for part in self.parts])

    def _between(self, one_P: Float[np.ndarray, " P"], other_P: Float[np.ndarray, " P"]) -> Float[np.ndarray, "B B"]:
        products_BB = np.einsum("p,pbqc,q->bc", one_P, self.products_PBPB, other_P, optimize=True)
        return (products_BB + products_BB.T) / 2

    def _moments(self, rule_P: Float[np.ndarray, " P"]) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
        """Squared expectation, and the trace of the covariance between batches, of the data and of each draw."""
        products_BB = self._between(rule_P, rule_P)
        squared_R = self._crossed(products_BB)
        mean_R = self._draws_RB @ np.diag(products_BB) / len(products_BB)
        return squared_R, mean_R - squared_R

    def _crossed(self, products_BB: Float[np.ndarray, "B B"]) -> Float[np.ndarray, " R"]:
        """The mean over pairs of different batches."""
        draws_RB, squares_RB = self._draws_RB, self._draws_RB**2
        sums_R = ((draws_RB @ products_BB) * draws_RB).sum(1) - squares_RB @ np.diag(products_BB)
        return sums_R / (draws_RB.sum(1) ** 2 - squares_RB.sum(1))


def as_numbers(estimates: RuleEstimates) -> dict[str, dict[str, float]]:
    """The estimates as study.json has them."""
    return {field.name: vars(getattr(estimates, field.name)) for field in fields(estimates)}


def rule_estimates(
    estimator: Estimator, sections: Mapping[str, Mapping[str, Rule]]
) -> dict[str, dict[str, RuleEstimates]]:
    return {section: {name: estimator.of(rule) for name, rule in of.items()} for section, of in sections.items()}


def _estimate(values_R: Float[np.ndarray, " R"]) -> Estimate:
    drawn_R = values_R[1:]
    if np.isnan(drawn_R).mean() > (1 - CONFIDENCE) / 2:
        return Estimate(float(values_R[0]), np.nan, np.nan)
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(drawn_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return Estimate(float(values_R[0]), float(low), float(high))
