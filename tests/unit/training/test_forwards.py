"""Nothing computes with the policy's weights outside its five forwards, where whoever shards them can gather them."""

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ktr.algorithm.group_divergence import GroupDivergence
from ktr.algorithm.weighting import KeyTokens, TokenWeighting
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.policy.family import Policy
from ktr.scoring.group_divergence import PositionDivergence
from ktr.training.gradient_alignment import GradientAlignment
from ktr.training.learner import global_counts
from ktr.training.step_metrics import StepClock
from tests.tiny_policy import random_prompt
from tests.unit.training.conftest import MakeModule

NO_READS = ("__get__", "__set__", "requires_grad_", "zeros_like", "grad")  # attributes, shapes, and the graph's ends
FORWARDS = ("run_tower", "score_row", "decode", "head", "finish_rows")
SIGNALS = {
    "entropy": EntropySignal(),
    "visual": VisualSignal("blank_frames", distance="js"),
    "temporal": TemporalSignal(distance="kl"),
}


class WeightReads(TorchFunctionMode):
    """The functions that get a parameter of the policy while none of its forwards runs; attributes are no reads."""

    def __init__(self, policy: Policy, monkeypatch: pytest.MonkeyPatch):
        super().__init__()
        self.parameters = {id(parameter) for parameter in policy.parameters()}
        self.running, self.called, self.outside = 0, set[str](), set[str]()
        for name in FORWARDS:
            monkeypatch.setattr(policy, name, self.entered(name, getattr(policy, name)))

    def entered(self, name: str, forward: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.running += 1
            self.called.add(name)
            try:
                return forward(*args, **kwargs)
            finally:
                self.running -= 1

        return run

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        reads = func.__name__ not in NO_READS and not self.running
        if reads and any(id(leaf) in self.parameters for leaf in tree_leaves((args, kwargs))):
            self.outside.add(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "weighting", [KeyTokens(SIGNALS, TopRatio()), GroupDivergence(PositionDivergence(detach=False))]
)
def test_weights_are_read_inside_the_five_forwards_alone(
    make_module: MakeModule, weighting: TokenWeighting, monkeypatch: pytest.MonkeyPatch
):
    module = make_module(weighting, beta=0.1)
    prompts = [random_prompt(module.policy, i) for i in range(2)]
    with WeightReads(module.policy, monkeypatch) as reads:
        rollouts, features, seeds = module.source.take(prompts, 0, lambda: None, StepClock())
        experiences = module.judge(rollouts.groups)
        to_learn = module.learner.prepare(experiences, features, rollouts.old_logps, seeds)
        counts = global_counts(experiences, torch.device("cpu"))
        module.learner.backward(to_learn, counts, lambda loss: loss.backward())
        module.learning = to_learn, counts
        GradientAlignment().measure(module)
    assert reads.outside == set() and reads.called == set(FORWARDS)
    assert all(parameter.grad is not None for parameter in module.policy.model.lm_head.parameters())
