"""Updates have the length of AdamW's with the gradient of all tokens, and only their direction is the rule's."""

from copy import deepcopy
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

from ktr.algorithm.weighting import Uniform
from ktr.errors import ConfigError
from ktr.policy.family import Policy
from ktr.training.matched_updates import MatchedAdamW, MatchedAdamWCosine
from tests.unit.training.conftest import MakeModule, fit, key_tokens

RATES = {"lr": 0.1, "betas": (0.8, 0.9)}


def gradients(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]


def moves(optimizer: AdamW, parameters: list[Tensor], given: list[Tensor]) -> list[Tensor]:
    before = [parameter.detach().clone() for parameter in parameters]
    for parameter, gradient in zip(parameters, given, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()
    return [parameter.detach() - was for parameter, was in zip(parameters, before, strict=True)]


def new_parameters() -> list[Tensor]:
    return [torch.zeros(3, 2, requires_grad=True), torch.zeros(4, requires_grad=True)]


def test_every_update_has_the_norm_of_the_others_and_the_direction_of_its_own():
    matched, own, others = new_parameters(), new_parameters(), new_parameters()
    optimizer = MatchedAdamW([{"params": matched[:1]}, {"params": matched[1:]}], weight_decay=0.0, **RATES)
    plain = [AdamW(parameters, weight_decay=0.0, **RATES) for parameters in (own, others)]
    for step in range(5):
        given, other = gradients(step), gradients(100 + step)
        optimizer.match(dict(zip(matched, other, strict=True)), max_norm=1e9)
        moved = torch.cat([move.flatten() for move in moves(optimizer, matched, given)])
        as_own, as_other = (
            torch.cat([move.flatten() for move in moves(alone, parameters, of)])
            for alone, parameters, of in zip(plain, (own, others), (given, other), strict=True)
        )
        assert moved.norm() == pytest.approx(as_other.norm().item(), rel=1e-5)
        assert torch.cosine_similarity(moved, as_own, dim=0) == pytest.approx(1, abs=1e-6)
        assert optimizer.param_groups[0]["lr"] == 0.1


def test_other_gradients_are_clipped_and_must_be_told():
    parameters, clipped = new_parameters(), new_parameters()
    optimizers = [MatchedAdamW(of, weight_decay=0.0, **RATES) for of in (parameters, clipped)]
    big = [1e3 * gradient for gradient in gradients(1)]
    norm = torch.stack([gradient.norm() for gradient in big]).norm()
    for optimizer, of, other in zip(optimizers, (parameters, clipped), (big, [g / norm for g in big]), strict=True):
        optimizer.match(dict(zip(of, other, strict=True)), max_norm=1.0)
        moves(optimizer, of, gradients(0))
    torch.testing.assert_close(parameters[0].detach(), clipped[0].detach())
    with pytest.raises(ConfigError, match="supervised training has none"):
        moves(optimizers[0], parameters, gradients(0))


def test_it_goes_on_from_its_state_to_the_bit():
    def take(optimizer: MatchedAdamW, parameters: list[Tensor], steps: range) -> None:
        for step in steps:
            optimizer.match(dict(zip(parameters, gradients(10 + step), strict=True)), max_norm=1.0)
            moves(optimizer, parameters, gradients(step))

    whole = new_parameters()
    optimizer = MatchedAdamW(whole, **RATES)
    take(optimizer, whole, range(2))
    half = [parameter.detach().clone().requires_grad_() for parameter in whole]
    resumed = MatchedAdamW(half, **RATES)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # loading shares the tensors
    take(optimizer, whole, range(2, 4))
    take(resumed, half, range(2, 4))
    assert all(torch.equal(one, other) for one, other in zip(whole, half, strict=True))


def weights_of(policy: Policy) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def matched_run(make_module: MakeModule, **parts):
    module = make_module(**parts)
    module.optimizer_settings = MatchedAdamWCosine(lr=1e-3, total_steps=10)
    fit(module, num_steps=3)
    return module


def test_a_run_in_which_all_tokens_count_is_plain_grpo(make_module: MakeModule):
    module, plain = matched_run(make_module, weighting=Uniform()), make_module(weighting=Uniform())
    fit(plain, num_steps=3)
    torch.testing.assert_close(weights_of(module.policy), weights_of(plain.policy), rtol=0, atol=2e-6)


def test_a_run_of_chosen_tokens_moves_otherwise(make_module: MakeModule):
    module, plain = matched_run(make_module, weighting=key_tokens()), make_module(weighting=key_tokens())
    fit(plain, num_steps=3)
    assert cast(Any, module.optimizers()).optimizer.scale != 1.0
    assert not torch.equal(weights_of(module.policy), weights_of(plain.policy))


@pytest.mark.parametrize(("parts", "said"), [({"beta": 0.1}, "a KL term"), ({"updates_per_rollout": 2}, "rollout=2")])
def test_what_grpos_gradient_is_not_known_of_is_refused(make_module: MakeModule, parts, said: str):
    with pytest.raises(ConfigError, match=f"matched with GRPO's, which .*{said}"):
        matched_run(make_module, **parts)
