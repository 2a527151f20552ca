"""A run's policy as a folder of its own: weights merged and in one dtype, the run's pixels, how to ask it, a card.

final policy, or base + adapters of a checkpoint ─► one model, saved aside ─► pixels, ktr.yaml, README.md ─► renamed
"""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import instantiate
from safetensors import SafetensorError

from ktr.config.as_trained import ASKING, is_ours
from ktr.config.model_folder import require_model
from ktr.config.resumption import written_config
from ktr.errors import ConfigError, MissingData, MissingModel
from ktr.export.asking_files import write_asking
from ktr.export.chosen_weights import Weights, choose_weights
from ktr.export.model_card import model_card
from ktr.export.origin import origin_of
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.policy.folder_model import Dtype
from ktr.record.json_file import read_object

log = logging.getLogger(__name__)

CARD = "README.md"
SHARD = "5GB"


def export(
    run_dir: Path,
    output: Path,
    checkpoint: str | None = None,
    dtype: str = "auto",
    results: Sequence[Path] = (),
    model: Path | None = None,
) -> Path:
    """Write the policy of a run to ``output``; returns it.

    ``checkpoint`` is "last", "best", a number of updates or a folder, in place of the final policy. ``dtype`` "auto" is
    that of the model that the run started from, and ``model`` is where that lies by now, if elsewhere. ``results`` are
    folders of evaluations that the card tells. The folder is there whole or not at all. Raises ``MissingData`` where
    the run has no such policy, ``MissingModel`` where the model under its adapters is gone, and ``ConfigError`` where
    ``output`` holds something else than an earlier export.
    """
    if not (run_dir / "config.yaml").exists():
        raise MissingData(f"{run_dir}: there is no config.yaml; name a run's folder, such as runs/<run>")
    config = written_config(run_dir)
    if "trainer" not in config:
        raise MissingData(f"{run_dir}: it is no run of python -m ktr.train, and trained no policy; name one that did")
    if model is not None:
        config["model"]["path"] = str(model)
    if output.exists() and not (output / ASKING).exists() and any(output.iterdir()):
        raise ConfigError(f"--output {output}: it holds other files; name a folder that is empty or not there")
    told = [_result(folder) for folder in results]
    weights = choose_weights(run_dir, config, checkpoint)
    with _whole_or_not_at_all(output) as partial:
        policy, wanted = _load(weights, config, dtype)
        log.info("writing it in %s to %s", wanted, output)
        with _naming_its_disk(output):
            policy.save(partial, merge_adapters=True, dtype=wanted, max_shard_size=SHARD)
        for file in partial.glob("*.safetensors"):
            shutil.copymode(partial / "config.json", file)  # they are written for their owner alone
        write_asking(partial, config, policy)
        origin = origin_of(config)
        for file in origin.license_files:
            shutil.copyfile(file, partial / file.name)
        card = model_card(run_dir, config, weights, origin, policy.tokenizer, wanted, told)
        (partial / CARD).write_text(card, encoding="utf-8")
    return output


@contextmanager
def _whole_or_not_at_all(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` that takes its place at the end, or is gone where that is not reached."""
    place = output.resolve()
    partial, earlier = (place.with_name(f".{place.name}.{word}") for word in ("partial", "earlier"))
    _put_back(earlier, place)  # by an export that was killed
    for left in (partial, earlier):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if place.exists():
            place.rename(earlier)
        partial.rename(place)
    finally:
        _put_back(earlier, place)
        for left in (partial, earlier):
            shutil.rmtree(left, ignore_errors=True)


def _put_back(earlier: Path, place: Path) -> None:
    """Where an export ended between the two names, the earlier one has its place again."""
    if earlier.exists() and not place.exists():
        earlier.rename(place)


def _load(weights: Weights, config: Mapping[str, Any], dtype: str) -> tuple[Policy, str]:
    """The policy of these weights, and the dtype that it is to be written in.

    Adapters are merged in the dtype of the run, and what comes of it is rounded.
    """
    node = config["model"]
    wanted = _dtype_of(Path(node["path"])) or _dtype_of(weights.folder) or "float32" if dtype == "auto" else dtype
    log.info("reading %s", weights.folder)
    if weights.is_whole:
        with _naming_torn(weights.folder):
            return load_policy(weights.folder, dtype=cast(Dtype, wanted)), wanted
    require_model(Path(node["path"]), "model.path")
    if not is_ours(node):
        raise ConfigError(
            f"model._target_={node['_target_']}: a class that is not ktr's is not built for a folder's sake; export "
            "the run's final policy, without --checkpoint"
        )
    log.info("merging it into %s", node["path"])
    on_any_machine = {"attention": "sdpa", "gradient_checkpointing": False}
    with _naming_torn(node["path"]):
        policy = instantiate({**node, **{key: value for key, value in on_any_machine.items() if key in node}})
    with _naming_torn(weights.folder):
        policy.load_trained(weights.folder)
    return policy, wanted


def _dtype_of(folder: Path) -> str | None:
    """The dtype that the config.json of a folder names; None where there is none."""
    path = folder / "config.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = str(about.get("dtype") or about.get("torch_dtype"))
    return named if isinstance(getattr(torch, named, None), torch.dtype) else None


@contextmanager
def _naming_torn(folder: Path | str) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise MissingModel(
            f"{folder}: its weights cannot be read ({error}); put the folder's files there again"
        ) from error


@contextmanager
def _naming_its_disk(output: Path) -> Iterator[None]:
    """Give a fault of the disk, which safetensors has in the text of its own error only, the place where it is."""
    try:
        yield
    except SafetensorError as error:
        if (found := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise OSError(int(found[1]), str(error), str(output)) from error


def _result(folder: Path) -> dict[str, Any]:
    result = read_object(folder / "results.json")
    if result is None:
        raise MissingData(f"--results {folder}: there is no results.json; name a folder of python -m ktr.evaluate")
    return result
