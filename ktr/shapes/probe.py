"""What a trained policy's answers rest on, and whether the signals find the right words, against ground truth."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ktr.algorithm.weighting import KeyTokens, TokenWeighting
from ktr.analysis.attribution_summary import attribution_summary
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, Signal, TemporalSignal, VisualSignal
from ktr.evaluation.accuracy import Verdict, summarize, verdicts
from ktr.evaluation.attribution import LabelTokens, attribution_records
from ktr.evaluation.interventions import BlackVideo, DirectAnswer, Intervention, NoIntervention, ShuffledPatches
from ktr.record.token_records import Record, append_records
from ktr.rollout.engine import SamplingParams
from ktr.shapes.ground_truth import token_roles
from ktr.shapes.questions import APPEARANCE_KINDS, COMPOSED_KINDS, KINDS, TEMPORAL_KINDS, chance
from ktr.training.rl_module import VideoRLModule
from ktr.types import PromptInputs, RolloutGroup

INTERVENTIONS: dict[str, Intervention] = {
    "black_video": BlackVideo(),
    "shuffled_patches": ShuffledPatches(),
    "direct_answer": DirectAnswer(),
}
# Which questions an intervention is reported on; a temporal question is one that isn't about appearance.
REPORTED_ON: dict[str, dict[str, tuple[str, ...]]] = {
    "black_video": {"all": KINDS},
    "shuffled_patches": {"temporal": TEMPORAL_KINDS, "appearance": APPEARANCE_KINDS},
    "direct_answer": {"composed": COMPOSED_KINDS},
}


class WorldProbe:
    """Runs after training, on the embedded world only, where the generator knows what every word depends on.

    ``num_questions`` held-out questions are answered ``num_completions`` times and scored, by the paper's three signals
    and by those of the run that have other names. The temporal signal is measured on one shuffle, its specificity on
    the mean of ``num_shuffles``. ``roles`` are the truth about tokens. The interventions run greedily on all.
    """

    def __init__(
        self,
        num_questions: int = 96,
        num_completions: int = 4,
        num_shuffles: int = 4,
        seed: int = 0,
        roles: LabelTokens = token_roles,
    ):
        self.num_questions = num_questions
        self.num_completions = num_completions
        self.num_shuffles = num_shuffles
        self.seed = seed
        self.roles = roles
        self.signals: dict[str, Signal] = {
            "entropy": EntropySignal(),
            "visual": VisualSignal(),
            "temporal": TemporalSignal(),
        }

    @torch.no_grad()
    def __call__(
        self, module: VideoRLModule, batches: Iterable[list[PromptInputs]], attribution_file: Path
    ) -> dict[str, Any]:
        """``attribution``, ``interventions`` and ``chance`` of the summary; records go to ``attribution_file``."""
        module.policy.eval()
        attribution_file.unlink(missing_ok=True)
        as_it_is: list[Verdict] = []
        verdicts: dict[str, list[Verdict]] = {name: [] for name in INTERVENTIONS}
        records: list[Record] = []
        averaged: list[Record] = []
        guesses: list[float] = []
        signals = self.signals | own_signals(module.learner.weighting, self.signals)
        for batch in batches:
            guesses += [chance(q.category, q.extra["target"], q.options) for q in (p.question for p in batch)]
            as_it_is += self._as_it_is(module, batch)
            for name, intervention in INTERVENTIONS.items():
                verdicts[name] += self._answer(module, batch, intervention)
            missing = self.num_questions - len(records) // self.num_completions
            if missing > 0:
                groups = self._rollouts(module, batch[:missing])
                records += self._score(module, groups, signals)
                many: dict[str, Signal] = {"temporal": TemporalSignal(num_shuffles=self.num_shuffles)}
                averaged += self._score(module, groups, many)
        append_records(attribution_file, records)
        attribution = attribution_summary(records)
        attribution["temporal_specificity"] = attribution_summary(averaged)["temporal_specificity"]
        attribution["temporal_specificity_num_shuffles"] = self.num_shuffles
        interventions = {
            f"{name}_{part}": _accuracy(verdicts[name], kinds) | {"baseline": _accuracy(as_it_is, kinds)["accuracy"]}
            for name, parts in REPORTED_ON.items()
            for part, kinds in parts.items()
        }
        return {
            "attribution": attribution,
            "interventions": interventions,
            "chance": sum(guesses) / len(guesses),
        }

    def _as_it_is(self, module: VideoRLModule, batch: list[PromptInputs]) -> list[Verdict]:
        """Verdicts on the answers to plain prompts: those of validation, where it has just asked for the same."""
        known, ids = module.validated(_greedy(module)), [prompt.question.id for prompt in batch]
        return [known[i] for i in ids] if known.keys() >= set(ids) else self._answer(module, batch, NoIntervention())

    def _answer(self, module: VideoRLModule, batch: list[PromptInputs], intervention: Intervention) -> list[Verdict]:
        prompts = [intervention.prompt(module.policy, prompt, self._seed(prompt)) for prompt in batch]
        groups = module.engine.generate(prompts, _greedy(module), [0] * len(prompts))
        return verdicts([intervention.judged(group) for group in groups], module.reward)

    def _rollouts(self, module: VideoRLModule, batch: list[PromptInputs]) -> list[RolloutGroup]:
        sampling = replace(module.sampling, num_completions=self.num_completions)  # as they are scored
        return module.engine.generate(batch, sampling, [self._seed(prompt) for prompt in batch])

    def _score(self, module: VideoRLModule, groups: list[RolloutGroup], signals: dict[str, Signal]) -> list[Record]:
        experiences = module.judge(groups)
        seeds = [self._seed(group.prompt) for group in groups]
        weighting = KeyTokens(signals, TopRatio())
        return attribution_records(
            module.policy, module.scorer, weighting, experiences, seeds, module.global_step, label=self.roles
        )

    def _seed(self, prompt: PromptInputs) -> int:
        return prompt.question.seed("probe", self.seed)


def _greedy(module: VideoRLModule) -> SamplingParams:
    return SamplingParams(num_completions=1, max_tokens=module.sampling.max_tokens, temperature=0.0)


def own_signals(weighting: TokenWeighting, known: Mapping[str, Signal]) -> dict[str, Signal]:
    """The signals of a run's weighting, if it reads any, that are not ``known`` by name."""
    signals = weighting.signals if isinstance(weighting, KeyTokens) else {}
    return {name: signal for name, signal in signals.items() if name not in known}


def _accuracy(verdicts: list[Verdict], kinds: tuple[str, ...]) -> dict[str, Any]:
    summary = summarize([verdict for verdict in verdicts if verdict.category in kinds])
    return {key: summary[key] for key in ("accuracy", "n", "low", "high")}
