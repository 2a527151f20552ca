"""A training run from a checked config to its report: evaluate, train, evaluate, probe, write down."""

import inspect
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.utils import get_class, instantiate
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig, OmegaConf

from ktr.algorithm.weighting import signal_views
from ktr.analysis.report import write_report
from ktr.attribution.absent_media import refuse_absent_media
from ktr.attribution.views import View
from ktr.config.composing import benchmark_nodes
from ktr.config.resumption import checkpoint_folder, checkpoints, resumed_checkpoint, step_of
from ktr.console.quiet import quiet_libraries
from ktr.data.datamodule import QuestionDataModule
from ktr.errors import ConfigError, MissingData
from ktr.evaluation.parts import check_parts
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.family import Policy
from ktr.record.curves import finishing
from ktr.record.json_file import read_object, write_object
from ktr.record.run_record import start_run
from ktr.record.throughput import Throughput
from ktr.scoring.reference import Reference
from ktr.training.benchmark_validation import BenchmarkValidation
from ktr.training.checkpoint import TRAINER_STATE, remove_checkpoint
from ktr.training.policy_module import PolicyModule
from ktr.training.replicated_strategy import ReplicatedStrategy
from ktr.training.rl_module import VideoRLModule
from ktr.training.sharded_strategy import ShardedStrategy
from ktr.training.sharding import gathered

# Written when the held-out accuracy at the start is known, so that a resumed run need not measure it again.
_START = "start.json"


def run_training(config: DictConfig, changed: Mapping[str, tuple[Any, Any]] | None = None) -> Path:
    """Train as ``config`` says and return the run's folder.

    A run that was cut off goes on from its last checkpoint, to the bit; ``changed`` are the settings that are not what
    they were (``check_resumption``). The folder then holds config, record, metrics, rollouts, ``policy/`` (an ordinary
    model folder), summary.json and report.html.
    """
    started, started_cpu = time.perf_counter(), time.process_time()
    quiet_libraries()
    seed_everything(config.seed, verbose=False)
    run_dir = Path(config.paths.run_dir)
    resumed_from = resumed_checkpoint(config)

    encoders = EncoderPool(instantiate(config.encoder))
    policy = load_policy(config, resumed_from)
    module = build_module(config, policy)
    datamodule = instantiate(config.data, encode=encoders.encode, check=module.reward.check, admit=module.admit)
    check_parts(module.parts(), datamodule.train.questions[0])
    if isinstance(datamodule, QuestionDataModule):
        refuse_absent_media(_views(module), datamodule.train.questions)
    trainer, probe = build_trainer(config), instantiate(config.probe)  # what it refuses is told before the training
    if benchmarks := benchmark_nodes(config):
        cast(Any, trainer).callbacks.append(_benchmark_validation(config, benchmarks, encoders))
    if trainer.is_global_zero:
        resumed_at = None if resumed_from is None else step_of(resumed_from)
        for later in checkpoints(checkpoint_folder(config)):  # a longer run takes the batch that was cut as a whole
            if resumed_at is None or step_of(later) > resumed_at:
                remove_checkpoint(later)
        start_run(run_dir, config, config.seed, trainer.world_size, resumed_at, changed)

    with finishing(trainer.loggers):
        for logger in trainer.loggers:
            logger.log_hyperparams(cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))
        with closing(module.engine):  # whatever happens, no process or memory of an engine outlives the run
            before = _accuracy_at_start(run_dir, trainer, module, datamodule, resumed_from is not None)
            fit_started, fit_started_cpu = time.perf_counter(), time.process_time()
            state = None if resumed_from is None else resumed_from / TRAINER_STATE
            trainer.fit(module, datamodule, ckpt_path=state, weights_only=True)
            fit_seconds, fit_cpu_seconds = time.perf_counter() - fit_started, time.process_time() - fit_started_cpu
            after = _validate(trainer, module, datamodule)
            policy.save(run_dir / "policy", merge_adapters=True)
            probed: dict[str, Any] = {}
            with gathered(policy) if probe is not None else nullcontext():  # the others give their parts, and leave
                if not trainer.is_global_zero:
                    return run_dir
                if probe is not None:
                    to_file = run_dir / "attribution.jsonl"
                    probed = probe(module, datamodule.val_dataloader(), to_file)

            summary = {
                "name": config.name,
                "algorithm": config.labels.algorithm,
                "attribution": {"name": config.labels.attribution},
                "seed": config.seed,
                "num_updates": trainer.global_step,
                "training_wall_seconds": fit_seconds,
                "training_cpu_seconds": fit_cpu_seconds,
                "accuracy_before": before,
                "accuracy_after": after,
                "skips": dict(datamodule.skips.counts),
            }
            for callback in cast(Any, trainer).callbacks:
                if isinstance(callback, BenchmarkValidation):
                    summary["benchmarks"] = callback.summary
                if isinstance(callback, Throughput):
                    summary |= {
                        "questions_per_second": callback.questions_per_second,
                        "tokens_per_second": callback.tokens_per_second,
                    }
            summary["attribution"] |= probed.pop("attribution", {})
            summary |= probed
            summary["rollout"] = module.engine.summary()
        summary |= {"wall_seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - started_cpu}
        write_object(run_dir / "summary.json", summary)
        write_report(run_dir)
    return run_dir


def _benchmark_validation(
    config: DictConfig, benchmarks: Mapping[str, Any], encoders: EncoderPool
) -> BenchmarkValidation:
    return BenchmarkValidation(
        {name: instantiate(node) for name, node in benchmarks.items()},
        config.validation.num_items,
        encoders,
        config.sampling.max_tokens,
        config.seed,
    )


def _views(module: PolicyModule) -> dict[str, Sequence[View]]:
    """The views that the signals and the reward of a run compare with; none without rollouts."""
    if not isinstance(module, VideoRLModule):
        return {}
    contrast = module.reward.contrast
    of_signals = signal_views(module.learner.weighting)
    return of_signals if contrast is None else of_signals | {"the reward's contrast": [contrast.view]}


def _accuracy_at_start(
    run_dir: Path, trainer: Trainer, module: PolicyModule, datamodule: LightningDataModule, resumed: bool
) -> dict[str, Any]:
    """Held-out accuracy before the first update, measured once a run and kept for when it is resumed.

    A run that starts anew reads none: rank 0 may still have to remove that of an earlier one.
    """
    if resumed:
        if (kept := read_object(run_dir / _START)) is not None:
            return kept
        raise MissingData(
            f"{run_dir / _START}: the held-out accuracy at the start is not there, and cannot be measured after "
            "updates: put the file back, or give another name=… for a run of its own"
        )
    before = _validate(trainer, module, datamodule)
    if trainer.is_global_zero:
        write_object(run_dir / _START, before)
    return before


def _validate(trainer: Trainer, module: Any, datamodule: LightningDataModule) -> dict[str, Any]:
    trainer.validate(module, datamodule, verbose=False)
    return module.validation_summary


def build_trainer(config: DictConfig) -> Trainer:
    """The trainer with its observers; one that is null is left out, and so are progress bars that are switched off."""
    loggers, callbacks = (
        [instantiate(part) for part in (config[group] or {}).values() if part is not None]
        for group in ("logger", "callbacks")
    )
    if not config.trainer.get("enable_progress_bar", True):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    shows = any(isinstance(callback, ProgressBar) for callback in callbacks)  # else Lightning brings a bar of its own
    trainer = instantiate(config.trainer, logger=loggers, callbacks=callbacks, enable_progress_bar=shows)
    if trainer.world_size > 1 and not isinstance(trainer.strategy, ReplicatedStrategy | ShardedStrategy):
        raise ConfigError(
            f"trainer.devices={config.trainer.devices}: these are {trainer.world_size} ranks, over which "
            f"{type(trainer.strategy).__name__} sums no gradients; choose trainer=gpu, trainer=ddp or trainer=fsdp2"
        )
    return trainer


def load_policy(config: DictConfig, checkpoint: Path | None = None) -> Policy:
    """The policy of ``config.model``, with the weights of ``checkpoint`` where one is given."""
    policy = instantiate(config.model)
    if checkpoint is not None:
        policy.load_trained(checkpoint)
    return policy


def build_module(config: DictConfig, policy: Policy) -> PolicyModule:
    """The module of ``config.algorithm``, given those of policy, engine and reference that it takes."""
    parts = {
        "policy": policy,
        "engine": instantiate(config.rollout, policy=policy),
        "reference": Reference(policy, load_frozen=partial(instantiate, config.model)),
    }
    taken = inspect.signature(get_class(config.algorithm._target_)).parameters
    return instantiate(config.algorithm, **{name: part for name, part in parts.items() if name in taken})
