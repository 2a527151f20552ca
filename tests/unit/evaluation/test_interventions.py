"""Interventions change the one thing that they are about."""

import torch

from ktr.evaluation.interventions import BlackVideo, DirectAnswer, NoIntervention, ShuffledPatches
from ktr.types import Completion, RolloutGroup
from tests.tiny_policy import CLIP, GRID, IMAGE, VIDEO, random_prompt


def test_a_black_video_is_what_the_processor_makes_of_black_frames(policy):
    prompt = random_prompt(policy, 0)
    black = BlackVideo().prompt(policy, prompt, 0)
    mean, std = 0.35, 0.3
    assert torch.allclose(black.pixels_NC, torch.tensor(-mean / std))
    assert torch.equal(black.input_ids_P, prompt.input_ids_P)


def test_shuffled_patches_keep_every_patch(policy):
    prompt = random_prompt(policy, 0)
    shuffled = ShuffledPatches().prompt(policy, prompt, 3)
    before, after = (p.pixels_NC.view(GRID[0], -1).sum(1).sort().values for p in (prompt, shuffled))
    assert torch.equal(before, after)
    assert not torch.equal(prompt.pixels_NC, shuffled.pixels_NC)


def test_named_media_alone_are_black_or_shuffled(policy):
    prompt = random_prompt(policy, 0, (VIDEO, IMAGE, CLIP))
    before = prompt.by_medium(prompt.pixels_NC)
    for change, changed in [
        (BlackVideo(media=[1]), [1]),
        (BlackVideo(media="videos"), [0, 2]),
        (BlackVideo(), [0, 1, 2]),
        (ShuffledPatches(), [0, 2]),
        (ShuffledPatches(media=[2]), [2]),
    ]:
        after = prompt.by_medium(change.prompt(policy, prompt, 3).pixels_NC)
        assert [i for i in range(3) if not torch.equal(before[i], after[i])] == changed


def test_a_direct_answer_goes_on_from_the_prefix_and_is_judged_with_it(policy):
    prompt = random_prompt(policy, 0)
    control = DirectAnswer("<think> </think> <answer>")
    direct = control.prompt(policy, prompt, 0)
    prefix = policy.tokenizer.encode(control.prefix, add_special_tokens=False)
    assert direct.input_ids_P.tolist() == prompt.input_ids_P.tolist() + prefix
    last = int(prompt.positions_3P.max())
    assert direct.positions_3P[:, -len(prefix) :].tolist() == [list(range(last + 1, last + 1 + len(prefix)))] * 3
    completion = Completion(torch.tensor([1]), torch.zeros(1), "red </answer>", "stop", 0)
    judged = control.judged(RolloutGroup(direct, (completion,)))
    assert judged.completions[0].text == "<think> </think> <answer> red </answer>"


def test_no_intervention_is_none(policy):
    prompt = random_prompt(policy, 0)
    assert NoIntervention().prompt(policy, prompt, 0) is prompt
