"""A study from its config to its files: rollouts of a fixed policy, gradients of parts, estimates, report."""

import logging
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from omegaconf import DictConfig

from ktr.algorithm.entropy_minority import BatchWeighting
from ktr.algorithm.token_baseline import TokenAdvantage
from ktr.algorithm.weighting import KeyTokens, TokenWeighting
from ktr.console.progress_line import ProgressLine
from ktr.console.quiet import quiet_libraries
from ktr.errors import ConfigError, MissingData
from ktr.evaluation.parts import check_members, check_parts, loss_parts, reward_parts, weighting_parts
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.family import Policy
from ktr.record.run_record import start_run
from ktr.rollout.group_sampler import GroupSampler
from ktr.study.estimates import Estimator, require_batches, rule_estimates
from ktr.study.gradients import PartGradients
from ktr.study.parts import PartMaker
from ktr.study.report import Findings, write_findings
from ktr.types import Experience, Medium

log = logging.getLogger(__name__)
A_VIDEO = Medium("video", (2, 2, 2), 1.0)


def run_study(config: DictConfig) -> tuple[str, Path]:
    """The table as text, and the run's folder. Raises ``KtrError`` where nothing can be said of what was asked."""
    quiet_libraries()
    seed_everything(config.seed, verbose=False)
    num_batches = require_batches(config.num_groups, config.data.questions_per_step)
    data = instantiate(config.data, encode=EncoderPool(instantiate(config.encoder)).encode)
    if num_batches * data.questions_per_step > len(data.train):
        raise ConfigError(
            f"num_groups={config.num_groups}: the training data has {len(data.train)} questions, and a question that "
            "comes twice is not independent; lower it"
        )
    parts, advantage = _part_maker(config), instantiate(config.advantage)
    if isinstance(advantage, TokenAdvantage):
        raise ConfigError("advantage: a study takes advantages of completions; choose advantage=group or dr_grpo")
    run_dir = Path(config.paths.run_dir)
    start_run(run_dir, config, config.seed)
    data.setup("fit")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy: Policy = instantiate(config.model).eval().to(device)
    policy.switch_off_dropout()
    engine = instantiate(config.rollout, policy=policy)
    scorer, sampling, reward, loss = (instantiate(config[part]) for part in ("scorer", "sampling", "reward", "loss"))
    checked = reward_parts(reward) | {"advantage": advantage} | loss_parts(loss) | weighting_parts(parts.weighting)
    check_parts(checked, data.train.questions[0])
    if reward.reads_selection:
        raise ConfigError("reward: one that counts selected tokens pays after a selection, and a study compares many")
    sampler = GroupSampler(engine, reward.contrast, policy.temporal_patch_size)
    gradients = PartGradients(
        policy, scorer, loss, parts, instantiate(config.label), num_batches, max_gib=config.max_gib
    )
    rewards = []
    total = num_batches * data.questions_per_step
    with closing(engine), ProgressLine("study", total=total) as progress:
        for number, batch in enumerate(islice(data.train_dataloader(), num_batches)):
            seeds = [prompt.question.seed(config.seed, number) for prompt in batch]
            groups = sampler.generate(batch, sampling, seeds)
            experiences = [
                Experience(group, by_name, rewards_G, advantage(rewards_G))
                for group, (by_name, rewards_G) in zip(groups, reward.of_groups(groups), strict=True)
            ]
            rewards += [experience.rewards_G.mean().item() for experience in experiences]
            gradients.add(number, experiences, seeds)
            progress.advance(len(batch), questions=len(batch), tokens=sum(group.num_tokens for group in groups))
    if len(rewards) < total:
        raise MissingData(f"only {len(rewards)} of {total} questions could be read: see {run_dir / 'skips.jsonl'}")
    of_metric = {"gradient": gradients.products(), "adamw": gradients.scaled_products(config.eps)}
    estimators = {
        metric: Estimator(parts.names, products_PBPB, data.questions_per_step, config.seed)
        for metric, products_PBPB in of_metric.items()
    }
    findings = Findings(
        name=config.name,
        num_groups=len(rewards),
        num_teaching=gradients.num_teaching,
        num_completions=sampling.num_completions,
        groups_per_batch=data.questions_per_step,
        mean_reward=sum(rewards) / len(rewards),
        parts_error=gradients.parts_error,
        seconds=progress.seconds,
        token_shares=parts.token_shares(gradients.num_tokens),
        whole={metric: estimator.whole() for metric, estimator in estimators.items()},
        rules={metric: rule_estimates(estimator, parts.rules()) for metric, estimator in estimators.items()},
    )
    return write_findings(run_dir, findings), run_dir


def _part_maker(config: DictConfig) -> PartMaker:
    weighting = instantiate(config.weighting)
    if type(weighting) is not KeyTokens:  # what others do beside the union would be lost
        raise ConfigError(
            f"weighting={config.weighting._target_}: rules are unions of signals; take weighting=key_tokens, and "
            "others.<name> for another weighting"
        )
    if config.ratios and "ratio" not in config.selection:
        raise ConfigError("ratios: this selection has no ratio; give ratios=[] or selection=top_ratio")
    knows_kinds = config.label is not None
    kinds, oracles = (list(config.kinds), config.get("oracles") or {}) if knows_kinds else ([], {})
    if unknown := {kind for of in oracles.values() for kind in of} - {*kinds, "other words"}:
        raise ConfigError(
            f"oracles: {min(unknown)} is none of kinds={kinds}; add it there, or leave all out by ~oracles"
        )
    others = {name: instantiate(other) for name, other in config.others.items()}
    for name, other in others.items():
        check_members(f"others.{name}", other, TokenWeighting)
        if isinstance(other, BatchWeighting):
            raise ConfigError(f"others.{name}: it weighs a batch as a whole, and a study looks at groups one by one")
        if set(other.required_views([A_VIDEO])) - set(weighting.required_views([A_VIDEO])):
            raise ConfigError(
                f"others.{name}: it compares with views that no signal of attribution has; turn that signal on"
            )
    curve = {float(ratio): instantiate(config.selection, ratio=ratio) for ratio in config.ratios}
    return PartMaker(kinds, weighting, curve, {name: list(of) for name, of in oracles.items()}, others)
