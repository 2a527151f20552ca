"""Which checkpoint a run goes on from, and which settings may be others than those that it was begun with.

config.yaml in a run's folder is what the run was. A setting that decides what the policy learns, or what its held-out
accuracy at the start was measured on, must be the same; all others are taken over and recorded (``MAY_CHANGE``).
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ktr.config.settings import differences, settings
from ktr.errors import ConfigError, MissingData

PARTIAL, REMOVED = ".partial", ".removed"  # of a checkpoint that is not whole yet, or no longer
MAY_CHANGE = (
    # how far and how fast: no earlier step depends on them
    "trainer.max_steps", "trainer.max_epochs", "trainer.max_time*", "trainer.min_steps", "trainer.min_epochs",
    "optimizer.lr", "optimizer.total_steps", "optimizer.warmup_steps", "optimizer.final_lr_fraction",
    "optimizer.max_grad_norm",
    # what watches: when it is validated (not on what: the accuracy at the start was on that), logs, records, the probe
    "trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.num_sanity_val_steps",
    "trainer.log_every_n_steps", "trainer.enable_*", "trainer.logger*", "trainer.profiler*", "callbacks.*", "logger.*",
    "labels.*", "table.*", "probe", "probe.*",
    # where things are
    "paths.*", "trainer.default_root_dir", "data.skips.path", "failure_dir", "data.*.how_to_get", "rollout.log_dir",
    # on which hardware: ranks, memory, servers. They change the order of sums at most, and the data are shared out anew
    "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.strategy.*",
    "data.validation_batch_size", "scorer.chunk_size", "scorer.max_tokens_per_pass", "model.gradient_checkpointing",
    "rollout.max_rows", "rollout.gpu_memory_utilization", "rollout.kv_cache_gib", "rollout.sleep",
    "rollout.num_servers", "rollout.addresses", "rollout.host", "rollout.api_key_env", "rollout.devices",
    "rollout.placement", "rollout.placement.*",
    # limits whose excess stops a run, so that their remedy is to raise them
    "rollout.start_limit_s", "rollout.time_limit_s", "rollout.max_restarts", "rollout.max_staleness",
    "rollout.max_model_len",
)  # fmt: skip
_NEVER_COMPARED = frozenset({"name", "resume", "hydra"})
_LENGTH_SHOWN = 60


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, oldest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of updates that a checkpoint is the state after."""
    return int(checkpoint.name.removeprefix("step-"))


def checkpoint_folder(config: Mapping[str, Any]) -> Path:
    """Where the checkpoints of a run with this config are."""
    for callback in (config.get("callbacks") or {}).values():
        if callback is not None and str(callback.get("_target_")).endswith(".ModelFolderCheckpoint"):
            return Path(callback["folder"])
    return Path(config["paths"]["run_dir"], "checkpoints")


def resumed_checkpoint(config: DictConfig) -> Path | None:
    """The checkpoint that a run with this config goes on from; None where it begins at the start.

    The last batch of a run is cut where ``trainer.max_steps`` is no multiple of ``updates_per_rollout``: a longer run
    goes on from the checkpoint before it, so that it learns what it would have learned at once.
    """
    if not config.resume:
        return None
    length, per_batch = config.trainer.get("max_steps"), config.algorithm.get("updates_per_rollout", 1)
    found = checkpoints(checkpoint_folder(config))
    usable = [path for path in found if step_of(path) % per_batch == 0 or step_of(path) == length]
    return next(reversed(usable), None)


def check_resumption(config: DictConfig) -> dict[str, tuple[Any, Any]]:
    """The settings in which a run that goes on differs from what it was, old and new; {} where none is resumed.

    A setting that only repeats another (``algorithm.optimizer.lr``) is left out. Raises ConfigError, naming all, where
    one differs that must not, and where the run is longer already; MissingData where its config.yaml is not readable.
    """
    run_dir = Path(config.paths.run_dir)
    if not config.resume:
        return {}
    written = written_config(run_dir) if (run_dir / "config.yaml").exists() else {}
    if not (found := checkpoints(own_checkpoint_folder(written, run_dir) if written else checkpoint_folder(config))):
        return {}
    was = _compared(written or written_config(run_dir))  # without one it says so
    changed = _without_copies(differences(was, now := _compared(plain(config))), config, now)
    if refused := {key: pair for key, pair in changed.items() if not _may_change(key)}:
        labels = {key: pair for key, pair in changed.items() if key.startswith("labels.")}
        raise ConfigError(_refusal(run_dir, labels | refused, [key for key in refused if key not in was]))
    length, step = config.trainer.get("max_steps"), step_of(found[-1])
    if length is not None and 0 <= length < step:
        raise ConfigError(
            f"trainer.max_steps={length}: {run_dir} is at step {step} already; give that or more, or another name=… "
            "for a run of its own"
        )
    return changed


def written_config(run_dir: Path) -> dict[str, Any]:
    """The config.yaml of a run's folder. Raises MissingData where there is none that can be read."""
    path = run_dir / "config.yaml"
    try:
        written = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise MissingData(
            f"{path} cannot be read ({reason}), so that nothing says what the run was; put it back, or give another "
            "name=… for a run of its own"
        ) from error
    if not isinstance(written, dict) or not written:
        raise MissingData(f"{path} holds no config; put it back, or give another name=… for a run of its own")
    return cast(dict[str, Any], written)


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as its config.yaml holds it: resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that is compared, by dotted key: places within the run's and the machine's folders as such, and those folders
    themselves as they are."""
    placed = settings(config, without=_NEVER_COMPARED | {"paths"})
    return placed | {f"paths.{name}": place for name, place in config.get("paths", {}).items()}


def _may_change(key: str) -> bool:
    if key.startswith("callbacks.") and key.endswith(".folder"):  # it is from there that the run would go on
        return False
    return any(fnmatchcase(key.removeprefix("algorithm."), pattern) for pattern in MAY_CHANGE)


def own_checkpoint_folder(written: Mapping[str, Any], run_dir: Path) -> Path:
    """Where a run's checkpoints are by its own account, wherever its folder is by now."""
    folder, was_at = checkpoint_folder(written), Path(written["paths"]["run_dir"])
    return run_dir / folder.relative_to(was_at) if folder.is_relative_to(was_at) else folder


def _without_copies(
    changed: Mapping[str, tuple[Any, Any]], config: DictConfig, now: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Without what an interpolation repeats, and without what an earlier config's interpolation repeated."""
    unresolved = settings(cast(dict[str, Any], OmegaConf.to_container(config)), without=_NEVER_COMPARED)
    literal = {key for key, value in unresolved.items() if not (isinstance(value, str) and "${" in value)}
    shown: dict[str, tuple[Any, Any]] = {}
    for key in sorted(changed, key=lambda key: (key not in literal, key.count("."))):
        same = [other for other in shown if shown[other] == changed[key]]
        if key in now:
            is_copy = key not in literal and bool(same)
        else:
            is_copy = any(other.rpartition(".")[2] == key.rpartition(".")[2] for other in same)
        if not is_copy:
            shown[key] = changed[key]
    return shown


def _refusal(run_dir: Path, refused: Mapping[str, tuple[Any, Any]], lacking: Sequence[str]) -> str:
    named = ", ".join(f"{key}: {_shown(old)} → {_shown(new)}" for key, (old, new) in sorted(refused.items()))
    remedy = "give the old values, or another name=… for a run of its own"
    if lacking:
        remedy += (
            f" (its config.yaml has no {', '.join(sorted(lacking))}: it is made of other parts, or by another version "
            "of ktr, which can finish it; record.json names the commit)"
        )
    return f"{run_dir} was begun with other settings ({named}): {remedy}"


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LENGTH_SHOWN else f"{text[: _LENGTH_SHOWN - 1]}…"
