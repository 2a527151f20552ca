"""Laws of the training step."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from ktr.algorithm.weighting import KeyTokens, Uniform
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal
from ktr.attribution.views import Factual
from ktr.errors import ConfigError, NonFiniteError
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import SamplingParams
from ktr.training.gradient_alignment import GradientAlignment
from ktr.types import PromptInputs
from tests.tiny_policy import random_prompt
from tests.unit.training.conftest import MakeModule, ShareOfWord, fit, key_tokens


class Losses(Callback):
    """Collects what each step returns."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)


def outputs_of(module, **settings) -> list[dict[str, Any]]:
    losses = Losses()
    fit(module, callbacks=[losses], **settings)
    return losses.outputs


def equal_weights(a, b) -> bool:
    pairs = zip(a.policy.named_weights(), b.policy.named_weights(), strict=True)
    return all(torch.equal(x, y) for (_, x), (_, y) in pairs)


def test_no_signals_and_uniform_weights_are_the_same_run_to_the_bit(make_module: MakeModule):
    a, b = make_module(KeyTokens({}, TopRatio())), make_module(Uniform())
    losses_a = [out["loss"] for out in outputs_of(a)]
    losses_b = [out["loss"] for out in outputs_of(b)]
    assert torch.equal(torch.stack(losses_a), torch.stack(losses_b))
    assert equal_weights(a, b)


def test_key_tokens_at_ratio_one_are_plain_grpo_to_the_bit(make_module: MakeModule):
    a, b = make_module(key_tokens(ratio=1.0)), make_module(Uniform())
    outputs_of(a), outputs_of(b)
    assert equal_weights(a, b)


def test_key_tokens_below_one_are_another_run(make_module: MakeModule):
    a, b = make_module(key_tokens(ratio=0.2)), make_module(Uniform())
    outputs_of(a), outputs_of(b)
    assert not equal_weights(a, b)


def test_a_run_without_callbacks_is_the_same_to_the_bit(make_module: MakeModule):
    observed, alone = make_module(key_tokens()), make_module(key_tokens())
    outputs_of(observed)
    fit(alone)
    assert equal_weights(observed, alone)


def test_rows_of_any_size_give_the_same_gradient(make_module: MakeModule):
    """Groups packed together or one at a time; the tower's gradient gathers over rows."""
    together, apart = make_module(key_tokens(), lr=1e-2), make_module(key_tokens(), lr=1e-2, max_tokens_per_pass=1)
    gradients = []
    for module in (together, apart):
        module.optimizer_settings = type(module.optimizer_settings)(lr=0.0, total_steps=2)
        fit(module, num_steps=1)
        gradients.append(torch.cat([p.grad.flatten() for p in module.policy.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def test_the_step_makes_better_paid_completions_likelier(make_module: MakeModule):
    """The sign of the advantage: after a step along the gradient, Σ A·logp of the same completions has grown."""
    module = make_module(lr=1e-4)
    (out,) = outputs_of(module, num_steps=1)
    to_learn = out["output"].to_learn
    module.policy.eval()
    groups = [scored.experience.group for scored in to_learn]
    features = module.policy.encode_video([g.prompt for g in groups])
    after = module.scorer.score(module.policy, groups, features, Factual(), [0] * len(groups))
    gain = sum(
        (scored.experience.advantages_G[:, None] * (new.logps_GT - scored.first.factual.logps_GT)).sum()
        for scored, new in zip(to_learn, after, strict=True)
    )
    assert gain > 0


def test_only_the_completions_tokens_move_the_loss(make_module: MakeModule):
    """Weights, selections and scores vanish off the completion mask."""
    for out in outputs_of(make_module(key_tokens())):
        for scored in out["output"].to_learn:
            padding = ~scored.experience.group.completion_mask_GT
            weights = scored.first.weights
            assert not weights.weights_GT[padding].any()
            assert not any(selected[padding].any() for selected in weights.selections.values())


class EqualReward:
    name = "equal"

    def __call__(self, group):
        return torch.ones(len(group.completions))


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    calls: list[Any] = []
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


def test_the_tower_runs_once_per_step_with_all_signals_on(make_module: MakeModule, monkeypatch):
    module = make_module(key_tokens())
    calls = count_calls(monkeypatch, module.policy, "run_tower")
    fit(module, num_steps=2)
    assert len(calls) == 2


def test_a_group_of_equal_rewards_is_not_scored_and_moves_nothing(make_module: MakeModule, monkeypatch):
    module = make_module(key_tokens(), reward=CompositeReward({"equal": EqualReward()}))
    before = {name: weight.clone() for name, weight in module.policy.named_weights()}
    calls = count_calls(monkeypatch, module.scorer, "score_pass")
    fit(module)
    assert calls == []
    assert all(torch.equal(weight, before[name]) for name, weight in module.policy.named_weights())


class EqualForOne:
    name = "one"

    def __call__(self, group):
        equal = group.question.id == "q0"
        return torch.ones(len(group.completions)) if equal else ShareOfWord()(group)


def test_the_ratio_is_one_on_policy_whatever_is_left_out(make_module: MakeModule):
    """A mean over the tokens that were scored: neither a group of equal rewards nor a batch of them pulls it down."""
    for reward in (EqualForOne(), EqualReward()):
        trainer = fit(make_module(reward=CompositeReward({"part": reward})), num_steps=1)
        assert trainer.callback_metrics["loss/ratio_mean"] == 1
        assert (trainer.callback_metrics["rollout/zero_advantage_fraction"] > 0) and trainer.global_step == 1


def test_a_group_of_one_completion_is_refused(make_module: MakeModule):
    with pytest.raises(ConfigError, match=r"num_completions=1.*give 2"):
        make_module(sampling=SamplingParams(num_completions=1, max_tokens=10))


def test_greedy_rollouts_which_are_all_the_same_are_refused(make_module: MakeModule):
    with pytest.raises(ConfigError, match=r"temperature=0: .*more than 0"):
        make_module(sampling=SamplingParams(num_completions=2, max_tokens=10, temperature=0.0))


def test_entropy_alone_asks_for_no_counterfactual_pass(make_module: MakeModule, monkeypatch):
    module = make_module(key_tokens(entropy=EntropySignal()))
    calls = count_calls(monkeypatch, module.scorer, "score_pass")
    fit(module, num_steps=1)
    assert len(calls) == 1  # the factual one


def test_under_a_kl_term_a_group_of_equal_rewards_needs_no_counterfactual_pass(make_module: MakeModule, monkeypatch):
    module = make_module(key_tokens(), beta=0.1, reward=CompositeReward({"equal": EqualReward()}))
    calls = count_calls(monkeypatch, module.scorer, "score_pass")
    fit(module, num_steps=1)
    assert len(calls) == 2  # the reference and the factual view


def test_a_kl_term_at_the_reference_itself_is_zero_and_pulls_back_later(make_module: MakeModule):
    first, second = outputs_of(make_module(beta=0.5, lr=1e-2), num_steps=2)
    for scored in first["output"].to_learn:
        torch.testing.assert_close(scored.ref_logps_GT, scored.first.factual.logps_GT, atol=1e-5, rtol=0)
    moved = [(scored.ref_logps_GT, scored.first.factual.logps_GT) for scored in second["output"].to_learn]
    assert any(not torch.allclose(ref, now, atol=1e-3) for ref, now in moved)


def test_later_updates_of_a_rollout_keep_old_logps_and_weights(make_module: MakeModule):
    module = make_module(key_tokens(), updates_per_rollout=3, lr=1e-2)
    trainer = fit(module, num_steps=3)  # counts optimizer steps
    assert trainer.global_step == 3
    assert module.source.num_batches == 1


def test_lora_trains_only_adapters_and_its_reference_is_the_base(make_module: MakeModule):
    lora = {"r": 2, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    module = make_module(beta=0.1, policy_settings={"lora": lora})
    weights = module.policy.model.state_dict
    before = {name: weight.clone() for name, weight in weights().items()}
    fit(module)
    changed = {name for name, weight in weights().items() if not torch.equal(weight, before[name])}
    assert changed and all("lora_" in name for name in changed)


def test_gradient_checkpointing_changes_nothing(make_module: MakeModule):
    a = make_module(key_tokens())
    b = make_module(key_tokens(), policy_settings={"gradient_checkpointing": True})
    outputs_of(a), outputs_of(b)
    for (name, x), (_, y) in zip(a.policy.named_weights(), b.policy.named_weights(), strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4, msg=name)


def test_a_loss_that_is_not_finite_stops_before_the_weights_and_keeps_what_made_it(make_module, monkeypatch):
    module = make_module()
    before = {name: weight.clone() for name, weight in module.policy.named_weights()}
    monkeypatch.setattr(type(module.advantage), "__call__", lambda self, rewards_G: rewards_G * torch.nan)
    with pytest.raises(NonFiniteError, match=r"step 1: .*loss/total.* is NaN or infinite"):
        fit(module)
    assert all(torch.equal(weight, before[name]) for name, weight in module.policy.named_weights())
    assert (module.failure_dir / "policy" / "model.safetensors").is_file()
    assert "q0" in (module.failure_dir / "step.json").read_text()


def test_seeds_depend_on_run_step_and_question_only(make_module: MakeModule):
    source = make_module().source
    prompts: list[PromptInputs] = [random_prompt(source.policy, i) for i in range(2)]
    first = source._seeds(prompts)
    assert first == source._seeds(prompts) and first[0] != first[1]
    assert source._seeds(prompts[::-1]) == first[::-1]
    source.num_batches = 1
    assert source._seeds(prompts)[0] != first[0]


@pytest.mark.usefixtures("only_lightning_asks_for_its_device")
def test_all_is_computed_where_the_policy_is(make_module: MakeModule):
    fit(make_module(updates_per_rollout=2), num_steps=2, callbacks=[GradientAlignment(every_n_steps=1)])
