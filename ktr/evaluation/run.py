"""Evaluation of a policy without training it: held-out accuracy."""

from contextlib import closing
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from omegaconf import DictConfig

from ktr.console.progress_line import ProgressLine
from ktr.console.quiet import quiet_libraries
from ktr.data.datamodule import QuestionDataModule
from ktr.evaluation.accuracy import AccuracyMeter, verdicts
from ktr.evaluation.parts import check_parts, reward_parts
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.family import Policy
from ktr.record.json_file import write_object
from ktr.record.run_record import start_run
from ktr.rollout.engine import RolloutEngine, shared_features


@torch.no_grad()
def run_evaluation(config: DictConfig) -> Path:
    """Answer the held-out questions in each way of ``config.answers``; returns the path of summary.json.

    A question whose video can't be read is no wrong answer: it is counted in ``skips``. Raises MissingData where none
    can be read.
    """
    run_dir, policy, engine, data = _prepare(config)
    reward = instantiate(config.reward)
    check_parts(reward_parts(reward), data.validation.questions[0])
    meters = {name: AccuracyMeter(instantiate(sampling)) for name, sampling in config.answers.items()}
    with closing(engine), ProgressLine("evaluate", total=len(data.validation)) as progress:
        for batch in data.val_dataloader():
            if not batch:  # none of it could be read
                continue
            with shared_features(engine, policy, batch):
                for meter in meters.values():
                    groups = engine.generate(
                        batch, meter.sampling, [prompt.question.seed(config.seed) for prompt in batch]
                    )
                    meter.add(verdicts(groups, reward))
            progress.advance(len(batch), questions=len(batch))
    summary = {
        "name": config.name,
        "model": str(config.model.path),
        "seed": config.seed,
        "accuracy": {name: meter.summary() for name, meter in meters.items()},
        "skips": dict(data.skips.counts),
        "rollout": engine.summary(),
    }
    return write_object(run_dir / "summary.json", summary)


def _prepare(config: DictConfig) -> tuple[Path, Policy, RolloutEngine, QuestionDataModule]:
    quiet_libraries()
    seed_everything(config.seed, verbose=False)
    run_dir = Path(config.paths.run_dir)
    start_run(run_dir, config, config.seed)
    encoders = EncoderPool(instantiate(config.encoder))
    policy = instantiate(config.model).eval().to("cuda" if torch.cuda.is_available() else "cpu")
    data = instantiate(config.data, encode=encoders.encode, check=instantiate(config.reward).check)
    data.setup("validate")  # as Lightning does in training: rows that are no questions are counted as skips too
    return run_dir, policy, instantiate(config.rollout, policy=policy), data
