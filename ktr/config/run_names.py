"""Names of runs and where their folders are: the resolvers that conf/ uses.

A run is called by what tells it from another: ``video_ktr-vet-16f-s0`` is its algorithm, its signals, its frames and
its seed, and every other override of the command line follows (``…-max_steps_2``). Runs of an experiment stand in a
folder of the experiment's name.
"""

import os
import re
from collections.abc import Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from platformdirs import user_cache_path

from ktr.config.launched import starts_apart_from_others
from ktr.config.settings import override_without_secrets
from ktr.errors import ConfigError

IN_THE_NAME = {"algorithm", "attribution", "seed", "video.num_frames", "experiment"}
WHERE_FILES_ARE = {"benchmark.annotations", "benchmark.media_root", "encoder.cache.folder", "encoder.cache.max_gib"}
HOW_IT_IS_ASKED = {"retry_failed", "batch_size", "num_decoders"}  # with other values a benchmark's run goes on
HOW_IT_IS_ASKED |= {
    f"endpoint.{key}" for key in (
        "base_url", "key_variable", "max_concurrency", "requests_per_minute", "retries", "time_limit_s",
        "spending_limit", "prices", "num_decoders", "n_per_request",
    )
}  # fmt: skip
FOLDER_OF_RANK_0 = "KTR_RUN_FOLDER"  # where rank 0 tells the processes that it launches which folder is theirs
MAX_LENGTH = 120  # a folder's name has a limit on every file system
NOT_PART_OF_IT = {"name", "resume", "paths", "hydra", "logger", "callbacks"}
NOT_PART_OF_IT |= {"question", "options", "completion", "media_root", "output"}  # long texts


def register_resolvers() -> None:
    """Make the resolvers below known to OmegaConf, and ``${user_cache:}``, ``${shipped:path}``, ``${total:1,2}``."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
    OmegaConf.register_new_resolver("chosen", chosen, replace=True)
    OmegaConf.register_new_resolver("table_rows", table_rows, replace=True)
    OmegaConf.register_new_resolver("table_seeds", table_seeds, replace=True)
    OmegaConf.register_new_resolver("rows_at_once", lambda accelerator: -1 if accelerator == "cpu" else 1, replace=True)
    OmegaConf.register_new_resolver("user_cache", lambda: str(user_cache_path("ktr")), replace=True)
    OmegaConf.register_new_resolver("total", lambda *terms: sum(terms), replace=True)
    OmegaConf.register_new_resolver("no_wandb_key", no_wandb_key, replace=True)
    OmegaConf.register_new_resolver("shipped", lambda path: str(Path(__file__).parents[1] / path), replace=True)


def run_name(program: str, *, _root_: DictConfig) -> str:
    """Readable name of a run of ``program`` (train, evaluate, attribute): distinct where the command line is."""
    hydra = _hydra(_root_)
    choices = hydra.runtime.choices
    if program == "train":
        parts = [choices["algorithm"]]
        parts += [choices["attribution"]] if "weighting" in _root_.algorithm else []  # where tokens are weighed
    else:
        parts = [program]
    parts += [f"{_root_.video.num_frames}f", f"s{_root_.seed}"]
    keys = [override_key(override) for override in hydra.overrides.task]
    described = [_described(override, choices, keys) for override in sorted(hydra.overrides.task)]
    name = "-".join(parts + [text for text in described if text])
    return name if len(name) <= MAX_LENGTH else f"{name[: MAX_LENGTH - 9]}-{crc32(name.encode()):08x}"


def chosen(group: str, *, _root_: DictConfig) -> str:
    """The file of ``group`` that this run is composed of."""
    return _hydra(_root_).runtime.choices[group]


def table_rows(*, _root_: DictConfig) -> str:
    """The rows of the table that this sweep is, as the values of a sweep over them."""
    return ",".join(_root_.table.rows)


def table_seeds(*, _root_: DictConfig) -> str:
    """The seeds of the table that this sweep is, likewise."""
    return ",".join(map(str, _root_.table.seeds))


def no_wandb_key() -> bool:
    """True where W&B has no key, neither in the environment nor in ~/.netrc: the run is then kept on disk, offline."""
    if os.environ.get("WANDB_API_KEY"):
        return False
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc().authenticators(host) is None
    except (FileNotFoundError, NetrcParseError):
        return True


def run_folder(runs: str, name: str, resume: bool, *, _root_: DictConfig) -> str:
    """Folder of a run below ``runs``: [experiment/]name, or the first of name-2, name-3, … that is free.

    A folder is taken when its run has finished (it holds summary.json), so that a rerun never touches a finished run,
    and a rerun of a run that was killed goes on in its folder. With ``resume=False`` any existing folder is taken.
    A row of a table has one folder, table/<table>/<name>: finished, it is not run again.
    """
    if "LOCAL_RANK" in os.environ and FOLDER_OF_RANK_0 in os.environ:
        return os.environ[FOLDER_OF_RANK_0]
    if not resume and starts_apart_from_others():
        raise ConfigError(
            "resume=false: ranks that are launched apart from each other cannot agree on the first folder that is "
            "free; give a name=… of its own, and resume=true"
        )
    hydra = _hydra(_root_)
    if "hydra" not in _root_ and not OmegaConf.is_missing(hydra.runtime, "output_dir"):  # the job runs: Hydra chose
        return os.path.relpath(hydra.runtime.output_dir, runs)
    if _root_.get("table") is not None:
        return str(Path("table", _root_.table.name, name))
    base = Path(*_experiments(hydra), name)
    folder, number = base, 1
    while (Path(runs) / folder / ("summary.json" if resume else "")).exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return str(folder)


def _hydra(root: DictConfig) -> Any:
    """Hydra's own node: in the config while it is composed, held by HydraConfig once the job runs."""
    hydra = root.get("hydra")
    if hydra is None:
        if not HydraConfig.initialized():
            raise ConfigError(
                "a run's name needs Hydra's choices: compose with ktr.config.composing.compose, or pass name=…"
            )
        hydra = HydraConfig.get()
    return hydra


def _experiments(hydra: Any) -> list[str]:
    """The experiments of the command line as one folder, [] without any; Hydra's choices leave out a list of them."""
    chosen = [text.partition("=")[2] for text in hydra.overrides.task if override_key(text) == "experiment"]
    return ["+".join(name.strip() for name in text.strip("[]").split(",")) for text in chosen]


def override_key(override: str) -> str:
    """``+trainer.max_steps=3`` → ``trainer.max_steps``."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _described(override: str, choices: DictConfig, keys: Sequence[str]) -> str:
    """What an override adds to the name: ``trainer.max_steps=2`` → max_steps_2, ``trainer=ddp`` → ddp.

    ``probe=none`` → no_probe, since a bare ``none`` is that of the signals.
    """
    key, value = override_key(override), override_without_secrets(override).partition("=")[2]
    if key.split(".")[0] in NOT_PART_OF_IT or key in IN_THE_NAME | WHERE_FILES_ARE | HOW_IT_IS_ASKED:
        return ""
    leaf = _leaf(key)
    label = leaf if [_leaf(other) for other in keys].count(leaf) == 1 else key.replace("/", "_")
    if override.startswith("~") or (key in choices and value == "none"):
        return f"no_{label}"
    value = "/".join(value.rstrip("/").split("/")[-2:])  # of a path its last two parts
    text = re.sub(r"[^A-Za-z0-9.+_-]+", "_", value).strip("_")
    return text if key in choices else f"{label}_{text}"


def _leaf(key: str) -> str:
    """The last part of a key or a group: ``rollout/correction`` → correction."""
    return re.split(r"[./]", key)[-1]
