"""Laws of the views and the signals."""

from pathlib import Path

import pytest
import torch

from ktr.attribution.absent_media import refuse_absent_media
from ktr.attribution.distances import MEASURES, distances
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.signals import EntropySignal, RandomSignal, TemporalSignal, VisualSignal
from ktr.attribution.views import Factual, MaskedVideo, ShuffledFrames
from ktr.errors import InputError
from ktr.types import Distributions, MediaFile, MediaKind, Medium, RolloutGroup, TokenScores, VideoQuestion
from tests.linear_head import LinearHead
from tests.tiny_policy import IMAGE, VIDEO, random_group


def token_scores(seed: int, G: int = 3, T: int = 5) -> TokenScores:
    generator = torch.Generator().manual_seed(seed)
    return TokenScores(-torch.rand(G, T, generator=generator), torch.rand(G, T, generator=generator))


def group(factual: TokenScores, views: dict) -> GroupScores:
    mask = torch.ones(factual.logps_GT.shape, dtype=torch.bool)
    return GroupScores(factual, views, mask, ~mask, tuple(range(len(mask))))


def test_equal_views_are_one_key_and_different_draws_are_not():
    assert len({MaskedVideo(), MaskedVideo("drop"), MaskedVideo("zero"), Factual(), Factual()}) == 3
    assert len({ShuffledFrames(draw=d) for d in (0, 1, 0, 2)}) == 3


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: MaskedVideo("dropp"), "dropp"),  # type: ignore[arg-type]
        (lambda: MaskedVideo(fraction=0.0), "fraction"),
        (lambda: MaskedVideo(fraction=1.5), "fraction"),
        (lambda: ShuffledFrames("patch"), "granularity"),  # type: ignore[arg-type]
        (lambda: ShuffledFrames(order="sorted"), "order"),  # type: ignore[arg-type]
        (lambda: ShuffledFrames(draw=-1), "draw"),
        (lambda: TemporalSignal(order="reverse", num_shuffles=2), "reverse"),
        (lambda: TemporalSignal(num_shuffles=0), "num_shuffles"),
        (lambda: VisualSignal(distance="l3"), "l3"),  # type: ignore[arg-type]
        (lambda: TemporalSignal(shift="both"), "both"),  # type: ignore[arg-type]
    ],
)
def test_an_impossible_description_is_refused_by_name(build, named):
    with pytest.raises(Exception, match=named):
        build()


def test_entropy_is_the_factual_entropy_and_needs_no_view():
    factual = token_scores(0)
    assert EntropySignal().required_views([VIDEO]) == ()
    assert torch.equal(EntropySignal().scores(group(factual, {})), factual.entropies_GT)


@pytest.mark.parametrize("signal", [VisualSignal("zero", fraction=0.5), TemporalSignal()])
def test_a_view_that_changes_nothing_scores_exactly_zero(signal):
    factual = token_scores(0)
    (view,) = signal.required_views([VIDEO])
    assert torch.equal(signal.scores(group(factual, {view: factual})), torch.zeros(3, 5))


def test_signed_shift_is_positive_where_the_counterfactual_is_less_likely_and_absolute_is_its_size():
    factual, masked = token_scores(0), token_scores(1)
    view = MaskedVideo()
    signed = VisualSignal(shift="signed").scores(group(factual, {view: masked}))
    assert torch.equal(signed > 0, masked.logps_GT < factual.logps_GT)
    assert torch.equal(VisualSignal().scores(group(factual, {view: masked})), signed.abs())


@pytest.mark.parametrize("shift", ["absolute", "signed"])
def test_temporal_score_is_the_mean_over_draws_of_each_draws_shift(shift):
    signal = TemporalSignal("frame", num_shuffles=3, shift=shift)
    factual, drawn = token_scores(0), [token_scores(i) for i in (1, 2, 3)]
    views = dict(zip(signal.required_views([VIDEO]), drawn, strict=True))
    naive = torch.zeros(3, 5)
    for counterfactual in drawn:
        delta = factual.logps_GT - counterfactual.logps_GT
        naive += (delta.abs() if shift == "absolute" else delta) / 3
    torch.testing.assert_close(signal.scores(group(factual, views)), naive)


def test_an_image_has_no_temporal_views_and_scores_exactly_zero():
    assert TemporalSignal(num_shuffles=2).required_views([IMAGE]) == ()
    assert VisualSignal().required_views([IMAGE]) == (MaskedVideo(),)
    assert torch.equal(
        TemporalSignal().scores(group(token_scores(0), {MaskedVideo(): token_scores(1)})), torch.zeros(3, 5)
    )


def test_a_signal_of_named_media_asks_for_a_view_where_there_are_such():
    short = Medium("video", (1, 4, 4), 1.0)
    first, pictures = VisualSignal(media=[0]), VisualSignal(media="images")
    assert first.required_views([VIDEO]) == (MaskedVideo(media=(0,)),)
    assert pictures.required_views([VIDEO]) == () and pictures.required_views([VIDEO, IMAGE])
    assert not pictures.scores(group(token_scores(0), {})).any()
    temporal, second = TemporalSignal(), TemporalSignal(media=[1])
    assert temporal.required_views([IMAGE, VIDEO]) == (ShuffledFrames(),)
    assert temporal.required_views([IMAGE, short]) == () and TemporalSignal("frame").required_views([short])
    assert second.required_views([VIDEO, IMAGE]) == () and second.required_views([IMAGE, VIDEO])


@pytest.mark.parametrize("media", ["video", "", [], [-1], [True], ["0"], 0, None, {"a": 1}])
def test_media_that_are_no_media_are_refused_with_what_there_is(media):
    for build in (VisualSignal, TemporalSignal):
        with pytest.raises(Exception, match="media"):
            build(media=media)


def test_pictures_have_no_order_to_change():
    with pytest.raises(ValueError, match="a picture has no order"):
        TemporalSignal(media="images")
    assert MaskedVideo(media=[2, 0, 2]) == MaskedVideo(media=(0, 2))  # one pass for both


def test_named_media_that_no_question_has_are_refused_and_that_some_have_are_not():
    def question(*kinds: MediaKind) -> VideoQuestion:
        return VideoQuestion("q", "?", "free-form", "a", tuple(MediaFile(Path("f"), kind) for kind in kinds))

    one, mixed = [question("video"), question("video")], [question("video"), question("video", "image")]
    for views, questions in [
        (VisualSignal(media=[1]).views, one),
        (VisualSignal(media="images").views, one),
        (TemporalSignal(media=[1]).views, mixed),
        (TemporalSignal(media="videos").views, [question("image")]),
    ]:
        with pytest.raises(InputError, match=r"^attribution\.signals\.mine: media=.* any question"):
            refuse_absent_media({"attribution.signals.mine": views}, questions)
    for views in (VisualSignal(media=[1]).views, VisualSignal(media="images").views, EntropySignal().views):
        refuse_absent_media({"attribution.signals.mine": views}, mixed)
    refuse_absent_media({"attribution.signals.temporal": TemporalSignal().views}, [question("image")])


def test_a_required_view_that_was_not_scored_is_an_error():
    with pytest.raises(KeyError):
        VisualSignal().scores(group(token_scores(0), {}))
    with pytest.raises(ValueError, match="without entropies"):
        EntropySignal().scores(group(TokenScores(token_scores(0).logps_GT), {}))
    with pytest.raises(KeyError):
        TemporalSignal(num_shuffles=2).scores(group(token_scores(0), {ShuffledFrames(draw=1): token_scores(1)}))


def with_distributions(seed: int) -> TokenScores:
    generator = torch.Generator().manual_seed(seed)
    scores, mask = token_scores(seed), torch.arange(5)[None] < torch.tensor([5, 2, 4])[:, None]
    head = torch.randn(7, 4, generator=torch.Generator().manual_seed(9))
    hidden = torch.randn(int(mask.sum()), 4, generator=generator)
    distributions = Distributions(hidden, LinearHead(head), mask, torch.tensor([2]))
    return TokenScores(scores.logps_GT * mask, scores.entropies_GT, distributions)


@pytest.mark.parametrize("distance", MEASURES)
def test_a_distance_is_that_of_the_distributions_whatever_the_view_and_its_sign_that_of_the_log_prob(distance):
    factual, drawn = with_distributions(0), [with_distributions(i) for i in (1, 2)]
    moved = [distances(factual.distributions, other.distributions, distance) for other in drawn]
    view = MaskedVideo("zero", 0.5)
    visual = VisualSignal("zero", fraction=0.5, distance=distance)
    assert torch.equal(visual.scores(group(factual, {view: drawn[0]})), moved[0])
    signed = VisualSignal("zero", "signed", 0.5, distance).scores(group(factual, {view: drawn[0]}))
    assert torch.equal(signed.abs(), moved[0])
    assert torch.equal(signed > 0, drawn[0].logps_GT < factual.logps_GT)

    temporal = TemporalSignal("frame", num_shuffles=2, distance=distance)
    views = dict(zip(temporal.required_views([VIDEO]), drawn, strict=True))
    torch.testing.assert_close(temporal.scores(group(factual, views)), (moved[0] + moved[1]) / 2)
    unchanged = dict.fromkeys(views, factual)
    assert not temporal.scores(group(factual, unchanged)).any() and not temporal.scores(group(factual, {})).any()


def test_a_distance_asks_for_no_other_view_and_needs_the_distributions():
    assert VisualSignal(distance="js").required_views([VIDEO]) == VisualSignal().required_views([VIDEO])
    with pytest.raises(ValueError, match="distance='js'"):
        VisualSignal(distance="js").scores(group(with_distributions(0), {MaskedVideo(): token_scores(1)}))


def test_the_random_signal_is_uniform_zero_off_the_mask_and_needs_no_view(policy):
    group = GroupScores.of(
        completions := random_group(policy, 0, [4000, 3]), token_scores(0, 2, 4000), {}, (0,), seed=5
    )
    drawn = RandomSignal().scores(group)
    assert RandomSignal().required_views([VIDEO]) == ()
    assert not drawn[~completions.completion_mask_GT].any() and (drawn[0] > 0).all() and (drawn[0] <= 1).all()
    assert abs(drawn[0].mean() - 0.5) < 0.02 and abs(drawn[0].var() - 1 / 12) < 0.01


def test_no_draw_of_the_random_signal_is_zero_which_would_mean_that_it_did_not_act(policy, monkeypatch):
    group = GroupScores.of(random_group(policy, 0, [4]), token_scores(0, 1, 4), {}, (0,), seed=5)
    monkeypatch.setattr(torch, "rand", lambda length, generator: torch.zeros(length))
    assert (RandomSignal().scores(group) == 1).all()


def test_a_completion_keeps_its_draws_in_any_order_and_another_seed_gives_others(policy):
    completions, order = random_group(policy, 0, [7, 9, 4]), [2, 0, 1]
    permuted = RolloutGroup(completions.prompt, tuple(completions.completions[i] for i in order))
    draw = lambda of, seed: RandomSignal().scores(GroupScores.of(of, token_scores(0, 3, 9), {}, (0,), seed))  # noqa: E731
    drawn = draw(completions, 5)
    assert torch.equal(draw(permuted, 5), drawn[order])
    assert not torch.equal(draw(completions, 6), drawn) and not torch.equal(drawn[0, :4], drawn[2, :4])


def test_scores_carry_no_gradient():
    logps = torch.randn(2, 3, requires_grad=True)
    factual = TokenScores(logps, logps * 2)
    assert not VisualSignal().scores(group(factual, {MaskedVideo(): token_scores(1, 2, 3)})).requires_grad
    assert not EntropySignal().scores(group(factual, {})).requires_grad
