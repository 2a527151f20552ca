"""What a job needs on this machine, checked before any heavy import: its policy, its data, packages of extras."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ktr.config.model_folder import family_of, require_adapter, require_model
from ktr.errors import ConfigError, MissingData, MissingExtra


def require_paths(config: DictConfig) -> None:
    """Raise MissingModel or MissingData where a policy's folder lacks a file, or a dataset's file is not there.

    And ConfigError where the policy is of a family that ktr does not have. An endpoint is asked in place of a policy.
    """
    if config.get("endpoint") is None:
        _require_policy(config)
    require_data(config.data, "data")


def require_extras(config: DictConfig) -> None:
    """Raise MissingExtra where what is asked for an answer, a rollout engine or an endpoint, is not installed."""
    if config.get("endpoint") is not None:
        if config.endpoint._target_.startswith("ktr.") and find_spec("openai") is None:
            raise MissingExtra("openai", "api")
    elif config.rollout._target_.startswith("ktr.rollout.vllm.") and find_spec("vllm") is None:
        raise MissingExtra("vllm", "vllm", " (without a GPU: the CPU build, `make setup-vllm`)")


def _require_policy(config: DictConfig) -> None:
    folder = Path(config.model.path)
    require_model(folder, "model.path")
    by_family = config.model._target_ == "ktr.policy.families.load_policy"  # and not a class of the user's own
    family = family_of(folder) if by_family else None
    if config.model.get("adapter") is not None:
        require_adapter(Path(config.model.adapter), folder, family)
    if config.get("compare") is not None:
        require_model(Path(config.compare), "compare")
        if by_family and (other := family_of(Path(config.compare), "compare")) != family:
            raise ConfigError(
                f"compare={config.compare} is of the family {other} and model.path={folder} of {family}: one prompt "
                "cannot be read by both; compare policies of one family"
            )


def require_data(node: Any, at: str) -> None:
    """Raise MissingData where a data set at or below the node ``at`` lacks a file that it names."""
    if not isinstance(node, DictConfig):
        return
    if node.get("_target_") == "ktr.data.dataset.QuestionDataset":
        for key in ("annotations", "media_root"):
            if not Path(node[key]).expanduser().exists():
                raise MissingData(f"{at}.{key}={node[key]} does not exist. {node.get('how_to_get', '')}".rstrip())
        if (exclude := node.get("exclude")) is not None and not Path(exclude).expanduser().exists():
            raise MissingData(f"{at}.exclude={exclude} does not exist; python -m ktr.duplicates writes it")
    for key in map(str, node):
        if not OmegaConf.is_interpolation(node, key):  # what stands elsewhere is named there
            require_data(node[key], f"{at}.{key}")
