"""A policy that a run has trained is asked as it was trained: the same frames and pixels, prompt and sampling."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

log = logging.getLogger(__name__)

ASKING = "ktr.yaml"  # in an exported folder: those of its run
NODES = ("video", "prompt", "sampling")
NOT_OF_THE_RUN = ("sampling.num_completions",)  # how many answers are wanted is the question's business


def ask_as_trained(config: DictConfig, overrides: Sequence[str]) -> None:
    """Take over the nodes ``config.as_trained`` of the run that ``config.model.path`` is of, if it is of one.

    They are ``NODES`` where the config names none. ``overrides`` are the command line's: what it says of a node stands.
    A node that builds a class which isn't ktr's stays behind, with a warning: a folder from elsewhere may name any.
    """
    file = _config_of_run(Path(config.model.path))
    if file is None:
        return
    trained: Any = OmegaConf.to_container(OmegaConf.load(file))
    given = [override.key_or_group for override in OverridesParser.create().parse_overrides(list(overrides))]
    taken = [
        node for node in config.get("as_trained", NODES) if node in config and node in trained and node not in given
    ]
    for node in [node for node in taken if not is_ours(trained[node])]:
        log.warning("%s: its %s has a class from elsewhere, which is left out; choose %s=… yourself", file, node, node)
        taken.remove(node)
    kept = {key: OmegaConf.select(config, key) for key in (*given, *NOT_OF_THE_RUN) if key.split(".")[0] in taken}
    with open_dict(config):
        for node in taken:
            config[node] = trained[node]
        for key, value in kept.items():
            OmegaConf.update(config, key, value, force_add=True)
    log.info("%s as in %s", ", ".join(taken), file)


def is_ours(node: Any) -> bool:
    """Whether all that a node of a config builds is ktr's: a folder from elsewhere may name any class."""
    if isinstance(node, Mapping):
        return str(node.get("_target_", "ktr.")).startswith("ktr.") and all(map(is_ours, node.values()))
    return all(map(is_ours, node)) if isinstance(node, list) else True


def _config_of_run(model: Path) -> Path | None:
    """The config of the run in whose folder a policy lies, runs/<run>/policy, or of which it was exported."""
    if (model / ASKING).is_file():
        return model / ASKING
    for folder in model.absolute().parents[:3]:
        if (folder / "config.yaml").is_file() and (folder / "record.json").is_file():
            return folder / "config.yaml"
    return None
