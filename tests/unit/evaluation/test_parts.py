# ruff: noqa: E501
"""A part that lacks a member, takes other arguments or gives something else is one sentence before any rollout."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ktr.algorithm.advantage import CentredAdvantage, GroupAdvantage
from ktr.algorithm.cispo import ClippedImportance
from ktr.algorithm.entropy_minority import BatchEntropy
from ktr.algorithm.importance import SequenceMask, TokenTruncation
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.penalties import MaskedViewDivergence, SampledSurprise
from ktr.algorithm.ratios import SequenceRatio, TokenRatio
from ktr.algorithm.token_baseline import OptimalTokenBaseline
from ktr.algorithm.visual_dependency import VisualDependency
from ktr.algorithm.weighting import KeyTokens, RandomTokens, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, RandomSignal, Signal, TemporalSignal, VisualSignal
from ktr.attribution.soft_ranks import SoftRanks
from ktr.attribution.views import ShuffledFrames, View
from ktr.errors import ConfigError, MissingAnswer
from ktr.evaluation.made_up_group import MadeUpGroup
from ktr.evaluation.parts import check_parts, check_result, reward_parts, weighting_parts
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.composite import CompositeReward, ContrastRollouts
from ktr.rewards.format import Format
from ktr.types import MediaFile, Medium, RolloutGroup, TokenWeights, VideoQuestion

QUESTION = VideoQuestion("q", "what color ?", "free-form", "red", (MediaFile(Path("a.mp4")),))
SHIPPED = [
    ("advantage", GroupAdvantage()), ("advantage", CentredAdvantage()), ("reward.rewards.accuracy", Accuracy()),
    ("reward.rewards.format", Format()), ("weighting", Uniform()), ("weighting", BatchEntropy()),
    ("weighting", KeyTokens({"visual": VisualSignal()}, TopRatio())), ("weighting", RandomTokens({}, TopRatio())),
    ("attribution.signals.e", EntropySignal()), ("attribution.signals.v", VisualSignal(distance="kl")),
    ("attribution.signals.t", TemporalSignal()), ("attribution.signals.r", RandomSignal()), ("selection", TopRatio()),
    ("selection", SoftRanks()), ("loss", ClippedSurrogate()), ("loss.ratio", TokenRatio()),
    ("loss.ratio", SequenceRatio()), ("loss", ClippedImportance()), ("advantage", OptimalTokenBaseline()),
    ("loss.penalties.perception", MaskedViewDivergence()), ("loss.penalties.surprise", SampledSurprise(0.1)),
    ("weighting", VisualDependency({"visual": VisualSignal()}, TopRatio())), ("rollout.correction", TokenTruncation()), ("rollout.correction", SequenceMask()),
]  # fmt: skip


@pytest.mark.parametrize(("key", "part"), SHIPPED, ids=lambda value: getattr(type(value), "__name__", value))
def test_every_shipped_part_would_pass_as_a_user_s(key: str, part: Any):
    check_parts({key: part}, QUESTION)
    name = key if key.count(".") < 2 else key.rpartition(".")[0]
    check_result(name, key, part, MadeUpGroup.about(QUESTION))


class Mine(Signal):
    name = "mine"

    def scores(self, group: GroupScores) -> Tensor:
        return self.give(group.factual.logps_GT.detach())

    def give(self, logps_GT: Tensor) -> Any:
        return logps_GT


def signal(give: Any) -> Signal:
    return type("Mine", (Mine,), {"give": lambda self, logps_GT: give(logps_GT)})()


class NoCall:
    name = "n"

    def call(self, group: RolloutGroup) -> Tensor:
        return torch.zeros(2)


class NoName:
    def __call__(self, group: RolloutGroup) -> Tensor:
        return torch.zeros(2)


class OtherArguments:
    name = "n"

    def __call__(self, completions: Any, answers: Any) -> Tensor:
        return torch.zeros(2)


class NoViews:
    def __call__(self, group: GroupScores) -> Any: ...


class Looking(Mine):
    def required_views(self, media: Any) -> Any:
        return ("masked",)


class Silent(View):
    """It says nothing."""


class Wrong(View):
    def rows(self, rows_NF: Tensor, medium: Medium, generator: torch.Generator) -> Tensor:
        return rows_NF[1:]


class Unhashable(View):
    __hash__ = None  # pyright: ignore

    def rows(self, rows_NF: Tensor, medium: Medium, generator: torch.Generator) -> Tensor:
        return rows_NF


def looking(view: View) -> Signal:
    return type("Mine", (Mine,), {"views": (view,)})()


def weighting(give: Any) -> Any:
    return type(
        "Weighting", (Uniform,), {"__call__": lambda self, group: give(Uniform.__call__(self, group).weights_GT)}
    )()


def weights(right_GT: Tensor, **wrong: Any) -> TokenWeights:
    """With fields of another shape, which the tests' own check of shapes would refuse to make."""
    made = TokenWeights(right_GT)
    for name, value in wrong.items():
        object.__setattr__(made, name, value)
    return made


def loss(give: Any) -> Any:
    return type("Loss", (ClippedSurrogate,), {"__call__": lambda self, *a: give(ClippedSurrogate.__call__(self, *a))})()


def penalty(give: Any) -> Any:
    return type("Mine", (SampledSurprise,), {"__call__": lambda self, logps_GT, views: give(logps_GT)})(0.1)


def reward(give: Any) -> Any:
    return type("Reward", (), {"name": "n", "__call__": lambda self, group: give})()


@pytest.mark.parametrize(
    ("key", "part", "said"),
    [
        ("attribution.signals.m", signal(lambda x: x[:, 0]), r"signals\.m: .*must give .* of shape \(2, 3\).*gives one of shape \(2,\)"),
        ("attribution.signals.m", signal(lambda x: x.tolist()), r"gives a list"),
        ("attribution.signals.m", signal(lambda x: x > 0), r"of floating point, and gives torch\.bool"),
        ("attribution.signals.m", signal(lambda x: x * torch.nan), r"must be finite"),
        ("attribution.signals.m", signal(lambda x: {}["k"]), r"failed at a made-up group of two completions \(KeyError: 'k'\)"),
        ("attribution.signals.m", NoCall(), r"is no ktr\.attribution\.signals\.Signal: derive it from that class"),
        ("reward.rewards.m", NoCall(), r"rewards\.m: .*NoCall has no __call__.*; a Reward \(ktr\.rewards\.composite\) needs it"),
        ("reward.rewards.m", NoName(), r"has no name; a Reward"),
        ("reward.rewards.m", OtherArguments(), r"does not take \(group\)"),
        ("reward.rewards.m", reward(torch.zeros(2, 1)), r"shape \(2,\) .*gives one of shape \(2, 1\)"),
        ("reward.rewards.m", reward(torch.tensor([1, 0])), r"of floating point, and gives torch\.int64"),
        ("reward.rewards.m", reward([1.0, 0.0]), r"gives a list"),
        ("loss.penalties.m", NoViews(), r"penalties\.m: .*NoViews has no required_views; a Penalty"),
        ("loss.penalties.m", penalty(lambda x: x[:, 0]), r"penalties\.m: .*failed at a made-up group|shape \(2,"),
        ("loss.penalties.m", penalty(lambda x: x * torch.nan), r"penalties\.m: .*must be finite"),
        ("advantage", lambda rewards_G: rewards_G / 0, r"advantage: .*must be finite"),
        ("weighting", NoViews(), r"weighting: .*NoViews has no required_views; a TokenWeighting"),
        ("loss.ratio", lambda a, b, c: (a - b).detach().exp(), r"without a gradient"),
        ("loss.ratio", lambda a, b: (a - b).exp(), r"does not take \(logps_GT, old_logps_GT, completion_mask_GT\)"),
        ("advantage", lambda rewards_G: rewards_G.mean(), r"advantage: .*shape \(2,\) .*gives one of shape \(\)"),
        ("advantage", lambda rewards_G, std: rewards_G, r"does not take \(rewards_G\)"),
        ("attribution.signals.m", Looking(), r"signals\.m: .*Looking\.required_views must give a ktr\.attribution\.views\.View, and gives a str"),
        ("attribution.signals.m", looking(Silent()), r"\(NotImplementedError: Silent has no rows\(rows_NF, medium, generator\)\)"),
        ("attribution.signals.m", looking(Wrong()), r"Wrong\.rows must give finite rows of the shape that it got, \(4, 4\), not \(3, 4\)"),
        ("attribution.signals.m", looking(Unhashable()), r"TypeError: unhashable type: 'Unhashable'"),
        ("weighting", weighting(lambda w: w), r"weighting: .* must give a ktr\.types\.TokenWeights, and gives a Tensor"),
        ("weighting", weighting(lambda w: weights(w, weights_GT=w[0])), r"weighting: .*gives one of shape \(3,\)"),
        ("weighting", weighting(lambda w: weights(w, selections={"s": w[:1] > 0})), r"weighting: .*gives one of shape \(1, 3\)"),
        ("weighting", Uniform, r"weighting: .*does not take \(media\)"),
        ("loss", loss(lambda terms: terms.loss), r"loss: .* must give a ktr\.algorithm\.loss\.LossTerms, and gives a Tensor"),
        ("loss", loss(lambda terms: replace(terms, loss=terms.loss.detach())), r"loss: .*without a gradient"),
        ("loss", loss(lambda terms: replace(terms, kl=terms.kl / 0)), r"loss: .*: kl must give .*must be finite"),
        ("loss.ratio", lambda a, b, c: (a - b).mean(), r"loss\.ratio: .*gives one of shape \(\)"),
        ("loss", NoName(), r"is no ktr\.algorithm\.loss\.ClippedSurrogate"),
        ("selection", lambda s, m, e: m, r"has no (floor|eos_selectable)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_with_the_key(key: str, part: Any, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        check_parts({key: part}, QUESTION)
    assert "\n" not in str(caught.value)


def test_a_weighting_is_checked_with_its_signals_and_its_selection():
    parts = weighting_parts(KeyTokens({"mine": signal(lambda x: x[0])}, TopRatio()))
    assert set(parts) == {"weighting", "selection", "attribution.signals.mine"}
    with pytest.raises(ConfigError, match=r"signals\.mine"):
        check_parts(parts, QUESTION)


class Picky:
    """A reward that cannot judge the first question of the data, and says so."""

    name = "picky"

    def check(self, question: VideoQuestion) -> None:
        raise MissingAnswer("rows.json", question.id, "of no kind that it knows")

    def __call__(self, group: RolloutGroup) -> Tensor:
        raise AssertionError("it was asked all the same")


class Reading(NoCall):
    contrast = ContrastRollouts(ShuffledFrames())
    reads_selection = True

    def __call__(self, group: RolloutGroup) -> Tensor:
        assert group.num_selected_G is not None
        return group.num_selected_G / len(group.contrast)


def test_a_reward_gets_what_it_asks_for_and_is_left_alone_where_it_cannot_judge():
    check_parts(reward_parts(CompositeReward({"picky": Picky(), "reading": Reading(), "off": None})), QUESTION)


def test_what_a_part_draws_while_it_is_tried_no_step_misses():
    before = torch.get_rng_state()
    check_parts({"attribution.signals.m": signal(torch.rand_like)}, QUESTION)
    assert torch.equal(torch.get_rng_state(), before)
