"""The family of a model folder, by its config.json alone: what ``_target_`` of conf/model and conf/encoder name."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ktr.config.model_folder import family_of
from ktr.data.frame_cache import FrameCache
from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoReader
from ktr.policy.encoder import Encoder
from ktr.policy.family import Policy
from ktr.policy.folder_model import Dtype, require_config


def load_policy(
    path: str | Path,
    dtype: Dtype = "float32",
    attention: str = "sdpa",
    freeze: Sequence[str] = (),
    adapter: str | Path | None = None,
    lora: Mapping[str, Any] | None = None,
    gradient_checkpointing: bool = False,
) -> Policy:
    """The policy of the folder's family; see ``Policy``. Raises ``ConfigError`` where there is no such family."""
    require_config(Path(path))
    policy: type[Policy] = _family(path).FamilyPolicy
    return policy(path, dtype, attention, freeze, adapter, lora, gradient_checkpointing)


def make_encoder(
    path: str | Path,
    template: PromptTemplate,
    reader: VideoReader,
    max_prompt_tokens: int,
    max_answer_tokens: int = 0,
    cache: FrameCache | None = None,
) -> Encoder:
    """The encoder of the folder's family; see ``Encoder``. Raises as ``load_policy`` does."""
    return encoder_class(path)(path, template, reader, max_prompt_tokens, max_answer_tokens, cache)


def encoder_class(path: str | Path) -> type[Encoder]:
    """The class of the encoder of the folder's family. Raises as ``load_policy`` does."""
    require_config(Path(path))
    return _family(path).FamilyEncoder


def _family(path: str | Path) -> Any:
    return import_module(f"ktr.policy.{family_of(Path(path))}")
