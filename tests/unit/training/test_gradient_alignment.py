"""Parts of the gradient equal those of naive backward passes, however a step is run, and measuring moves nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ktr.algorithm.weighting import KeyTokens, RandomTokens, RestTokens
from ktr.attribution.selection import TopRatio
from ktr.attribution.views import Factual
from ktr.errors import ConfigError
from ktr.scoring.own_rows import token_gradient_norms
from ktr.training.gradient_alignment import GradientAlignment, chosen_parameters, token_parts
from ktr.training.learner import global_counts
from ktr.training.rl_module import VideoRLModule
from ktr.training.step_metrics import StepClock
from ktr.training.token_gradients import first_update
from ktr.types import RolloutGroup
from tests.tiny_policy import random_prompt
from tests.unit.training.conftest import MakeModule, fit, key_tokens

LORA = {"r": 2, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
ROLES = ("appearance", "nothing")


def by_parity(group: RolloutGroup) -> list[list[str]]:
    return [[ROLES[int(token) % 2] for token in completion.token_ids_T] for completion in group.completions]


def learning(module: VideoRLModule, num_questions: int = 3) -> None:
    """Bring the module to where its first optimizer step would be."""
    prompts = [random_prompt(module.policy, i) for i in range(num_questions)]
    rollouts, features, seeds = module.source.take(prompts, 0, lambda: None, StepClock())
    experiences = module.judge(rollouts.groups)
    to_learn = module.learner.prepare(experiences, features, rollouts.old_logps, seeds)
    counts = global_counts(experiences, torch.device("cpu"))
    module.learning = to_learn, counts
    module.policy.zero_grad()
    module.learner.backward(to_learn, counts, lambda loss: loss.backward())


def naive_logps(module: VideoRLModule) -> list[Tensor]:
    """The log-probs of each group by a pass of its own, with their graphs."""
    policy = module.policy
    return [
        module.scorer.score_pass(policy, [group], policy.encode_video([group.prompt]), [Factual()], [0])[0].logps_GT
        for group in (scored.group for scored in module.learning[0])
    ]


def naive(
    module: VideoRLModule, logps: Sequence[Tensor], part: Sequence[Tensor], parameters: Sequence[Tensor]
) -> Tensor:
    """The part's gradient by a backward pass of the policy loss with the part as its weights, a group at a time."""
    to_learn, counts = module.learning
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for scored, logps_GT, weights_GT in zip(to_learn, logps, part, strict=True):
        first, mask_GT = first_update(scored), scored.group.completion_mask_GT
        ratio_GT = (logps_GT - first.old_logps_GT).exp()
        losses_GT = -ratio_GT * scored.experience.advantages_G[:, None] * weights_GT
        if first.importance_GT is not None:
            losses_GT = losses_GT * first.importance_GT
        loss = (torch.where(mask_GT, losses_GT, 0.0).sum(1) / mask_GT.sum(1)).sum() / counts[0]
        found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        total = [a if b is None else a + b for a, b in zip(total, found, strict=True)]
    return torch.cat([gradient.flatten() for gradient in total])


def check_against_naive(module: VideoRLModule, modules: Any = "last_layer") -> None:
    learning(module)
    callback = GradientAlignment(modules=modules, roles=by_parity, seed=5)
    before = [None if p.grad is None else p.grad.clone() for p in module.policy.parameters()]
    trained = [p.requires_grad for p in module.policy.parameters()]
    metrics = callback.measure(module)
    assert trained == [p.requires_grad for p in module.policy.parameters()]
    for old, parameter in zip(before, module.policy.parameters(), strict=True):
        assert (old is None) == (parameter.grad is None) and (old is None or torch.equal(old, parameter.grad))
    to_learn, _ = module.learning
    parts = token_parts(to_learn, by_parity, 5)
    parameters = chosen_parameters(module.policy, modules)
    logps = naive_logps(module)
    whole = naive(module, logps, parts["all"], parameters)
    for name, part in parts.items():
        gradient = naive(module, logps, part, parameters)
        assert metrics[f"grad/norm/{name}"] == pytest.approx(float(gradient.norm()), rel=1e-5), name
        cosine = float(gradient @ whole / (gradient.norm() * whole.norm()))
        assert metrics[f"grad/cosine/{name}"] == pytest.approx(cosine, abs=1e-5), name
    assert metrics["grad/parts_error"] < 1e-5
    assert {"role/appearance", "role/nothing", "visual", "temporal", "entropy", "random"} <= parts.keys()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_tokens_per_pass": 60},
        {"policy_settings": {"freeze": ["vision", "merger"]}},
        {"policy_settings": {"lora": LORA}},
        {"policy_settings": {"lora": LORA | {"use_dora": True}}},
        {"policy_settings": {"gradient_checkpointing": True}},
        {"beta": 0.1},
    ],
    ids=str,
)
def test_parts_equal_naive_backward_passes(make_module: MakeModule, settings: dict[str, Any]):
    check_against_naive(make_module(key_tokens(), **settings))


@pytest.mark.parametrize("modules", [[0], [-1, 1], "all"], ids=str)
@pytest.mark.parametrize("settings", [{}, {"policy_settings": {"lora": LORA}}], ids=str)
def test_any_layers_can_be_asked_for(make_module: MakeModule, modules: Any, settings: dict[str, Any]):
    check_against_naive(make_module(key_tokens(), max_tokens_per_pass=100, **settings), modules)


def test_rollouts_that_were_generated_ahead(overlapped: Callable[..., Any]):
    module, _ = overlapped(noise=0.02, weighting=key_tokens())
    check_against_naive(module)


@pytest.mark.parametrize("weighting", [RestTokens, RandomTokens])
def test_a_choice_that_is_called_rest_or_random_takes_the_place_of_neither_part(
    make_module: MakeModule, weighting: type[KeyTokens]
):
    module = make_module(weighting(key_tokens().signals, TopRatio(0.2)))
    learning(module)
    parts = token_parts(module.learning[0], None, 0)
    assert GradientAlignment().measure(module)["grad/parts_error"] < 1e-5
    assert not any(map(torch.equal, parts["random"], parts["selected"]))


def test_soft_weights_are_parts_too(make_module: MakeModule):
    module = make_module(key_tokens())
    learning(module)
    to_learn, _ = module.learning
    scored = to_learn[0]
    first_update(scored).weights.weights_GT.mul_(0.5)
    metrics = GradientAlignment().measure(module)
    assert metrics["grad/parts_error"] < 1e-5
    weights_GT = first_update(scored).weights.weights_GT
    parts = token_parts(to_learn, None, 0)
    assert torch.equal(parts["random"][0].sum(1), (weights_GT != 0).sum(1).float())


def test_a_batch_of_equal_rewards_has_a_gradient_of_zero(make_module: MakeModule):
    module = make_module(key_tokens())
    module.learning = [], (12, 120)
    metrics = GradientAlignment(roles=by_parity).measure(module)
    assert metrics["grad/norm/all"] == 0 and not any("cosine" in name or "variance" in name for name in metrics)


@pytest.mark.parametrize("settings", [{}, {"policy_settings": {"lora": LORA}}], ids=str)
def test_norms_of_single_tokens_equal_their_own_backward_passes(make_module: MakeModule, settings: dict[str, Any]):
    module = make_module(key_tokens(), max_tokens_per_pass=100, **settings)
    learning(module)
    GradientAlignment().measure(module)
    to_learn, _ = module.learning
    policy, scored = module.policy, to_learn[-1]
    own = [p for part in policy.own_row_parts() for p in part.parameters() if p.requires_grad]
    features = policy.encode_video([scored.group.prompt])
    (scores,) = module.scorer.score_pass(policy, [scored.group], features, [Factual()], [0])
    mask_GT = scored.group.completion_mask_GT
    assert scored.gradient_norms_GT is not None and not scored.gradient_norms_GT[~mask_GT].any()
    for completion, token in mask_GT.nonzero().tolist():
        found = torch.autograd.grad(scores.logps_GT[completion, token], own, retain_graph=True)
        expected = torch.cat([gradient.flatten() for gradient in found]).norm()
        torch.testing.assert_close(scored.gradient_norms_GT[completion, token], expected, rtol=1e-4, atol=1e-6)
    (alone_GT,) = token_gradient_norms(policy, module.scorer, [scored.group], features)
    torch.testing.assert_close(alone_GT, scored.gradient_norms_GT, rtol=1e-4, atol=1e-6)


def test_norms_are_left_out_where_not_every_weight_is_a_linear_maps(make_module: MakeModule):
    module = make_module(key_tokens(), policy_settings={"lora": LORA | {"use_dora": True}})
    learning(module)
    GradientAlignment().measure(module)
    assert all(scored.gradient_norms_GT is None for scored in module.learning[0])


def test_variance_is_that_of_the_losses_of_tokens(make_module: MakeModule):
    module = make_module(key_tokens())
    learning(module)
    metrics = GradientAlignment().measure(module)
    every, weighted = [], []
    for scored in module.learning[0]:
        for advantage, mask_T, weights_T in zip(
            scored.experience.advantages_G,
            scored.group.completion_mask_GT,
            first_update(scored).weights.weights_GT,
            strict=True,
        ):
            every += [-float(advantage)] * int(mask_T.sum())
            weighted += [-float(advantage)] * int((weights_T != 0).sum())
    assert metrics["loss/variance_all"] == pytest.approx(float(torch.tensor(every).var(correction=0)), rel=1e-4)
    assert metrics["loss/variance"] == pytest.approx(float(torch.tensor(weighted).var(correction=0)), rel=1e-4)


class Recorded(GradientAlignment):
    """Keeps what it measured, by step."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.steps: list[int] = []

    def measure(self, module: VideoRLModule) -> dict[str, float]:
        self.steps.append(module.global_step)
        return super().measure(module)


@pytest.mark.parametrize("updates", [1, 3])
def test_a_run_with_and_without_it_is_equal_to_the_bit(make_module: MakeModule, updates: int):
    with_it, without = (make_module(key_tokens(), updates_per_rollout=updates) for _ in range(2))
    callback = Recorded(every_n_steps=2, roles=by_parity)
    fit(with_it, num_steps=6, callbacks=[callback])
    fit(without, num_steps=6)
    assert callback.steps == ([0, 2, 4] if updates == 1 else [0, 3])  # 3: the batch of updates 4, 5, 6
    pairs = zip(with_it.policy.named_weights(), without.policy.named_weights(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize(
    "modules, said", [("head", "choose last_layer"), ([7], "no layer 7"), ([0], "nothing is trained there")]
)
def test_modules_that_cannot_be_measured_are_named(make_module: MakeModule, modules: Any, said: str):
    lora = LORA | {"target_modules": ["q_proj"], "layers_to_transform": [1]}
    module = make_module(key_tokens(), policy_settings={"lora": lora})
    with pytest.raises(ConfigError, match=said):
        chosen_parameters(module.policy, modules)


@pytest.mark.parametrize(
    "settings",
    [
        {"lora": {"r": 2, "target_modules": ["qkv"]}},
        {"lora": {"r": 2, "target_modules": ["q_proj"], "layers_to_transform": [0]}},
        {"freeze": ["language"]},
    ],
    ids=str,
)
def test_a_run_that_trains_nothing_in_the_last_layer_goes_on_unmeasured(
    make_module: MakeModule, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    callback = Recorded(every_n_steps=1)
    fit(make_module(key_tokens(), policy_settings=settings), callbacks=[callback])
    assert callback.steps == [] and "no gradients are measured" in caplog.text


def test_nothing_of_a_batch_outlives_its_step(make_module: MakeModule):
    module = make_module(key_tokens())
    fit(module)
    assert module.learning[0] == []
