"""A model in a folder: how its weights are read, named and written, by one process or by the ranks that hold parts."""

import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ktr.config.model_folder import require_plain
from ktr.errors import MissingModel
from ktr.policy.lora import NamedWeights, load_adapters
from ktr.policy.shards import SHARDS, read_shards
from ktr.ranks import is_spread, rank_and_size

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

ONE_FILE = "100GB"
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


class FolderModel(nn.Module):
    """A ``model`` of ``model_class`` that came from the folder at ``path``, with or without adapters of its own."""

    model_class: ClassVar[Any]
    path: Path
    model: Any
    tokenizer: Any
    has_adapters: bool

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def named_weights(self, merge_adapters: bool = True) -> NamedWeights:
        """The weights by their names in the plain model, adapters merged in or left out; what an engine loads."""
        return NamedWeights(self.model, merge_adapters)

    def as_in_folder(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of ``named_weights`` as a model folder holds it, which is how an engine reads it."""
        return tensor

    def weights_in_parts(self) -> dict[str, Tensor]:
        """What a checkpoint in parts holds, by name: every weight, or with adapters those that are trained."""
        named = self.named_parameters()
        return {f"weight.{name}": p.detach() for name, p in named if p.requires_grad or not self.has_adapters}

    def load_trained(self, folder: Path) -> None:
        """Take over the weights that ``save``, or each rank for its part, wrote to ``folder``.

        Raises ``MissingModel`` where there are none.
        """
        if (folder / SHARDS).is_dir():
            read_shards(folder / SHARDS, self.weights_in_parts())
            return
        if self.has_adapters:
            load_adapters(self.model, folder)
            return
        if not (folder / "model.safetensors").is_file():
            raise MissingModel(f"no model.safetensors in {folder}: it is not a checkpoint of this run")
        # Through from_pretrained: the names in a model folder are not those of the modules.
        self.model.load_state_dict(self._load(folder, self.dtype).state_dict())

    def save(
        self, folder: Path, merge_adapters: bool = False, dtype: str | None = None, max_shard_size: str = ONE_FILE
    ) -> None:
        """Write an ordinary model folder: weights as safetensors, config, tokenizer, processor.

        With LoRA it holds the adapters only, or, with ``merge_adapters``, the whole model with them merged in and then
        rounded to ``dtype``, if one is given. Weights of more than ``max_shard_size`` are cut into several files, which
        ``load_trained`` does not read. Of several ranks the first writes; to be called on all of them where the policy
        is spread over them, which is saved as a whole model.
        """
        model, writes, spread = self.model, rank_and_size()[0] == 0, any(map(is_spread, self.model.parameters()))
        if spread or (merge_adapters and self.has_adapters and writes):
            model = self._load(self.path, self.dtype if dtype is None else getattr(torch, dtype)) if writes else None
            weights = {} if model is None else model.state_dict()
            for name, tensor in self.named_weights():
                if writes:
                    weights[name].copy_(tensor)
        if not writes:
            return
        self._write(model, folder, max_shard_size)
        self.tokenizer.save_pretrained(folder)
        for name in PROCESSOR_FILES:
            if (self.path / name).is_file():
                shutil.copyfile(self.path / name, folder / name)

    def _write(self, model: Any, folder: Path, max_shard_size: str) -> None:
        model.save_pretrained(folder, max_shard_size=max_shard_size)

    def save_adapters(self, folder: Path) -> None:
        """Write the adapters alone, in peft's layout."""
        self.model.save_pretrained(folder)

    def _load(self, folder: Path, dtype: torch.dtype | Literal["auto"]) -> Any:
        options = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
        # Else a weight of another shape would be an error that names none, after a table on stderr.
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, found = self.model_class.from_pretrained(folder, **options)
        drawn = {name: "is not there" for name in found["missing_keys"]}  # transformers goes on with random ones
        drawn |= {name: f"is {list(at)}, not {list(to)}" for name, at, to in found["mismatched_keys"]}
        if drawn:
            name, fault = min(drawn.items())
            raise MissingModel(
                f"{folder}: its files do not hold {len(drawn)} of the weights that its config.json asks for: {name} "
                f"{fault}; put the model's files there again"
            )
        _drop_idle(model.generation_config)
        return model


def _drop_idle(generation: Any) -> None:
    """Drop flags that do nothing, such as a temperature of greedy answers: transformers reads but won't write them."""
    try:
        generation.validate(strict=True)
    except ValueError as error:
        for name in re.findall(r"^- `(\w+)`: ", str(error), re.MULTILINE):
            setattr(generation, name, None)


def require_config(path: Path) -> None:
    """Raise ``MissingModel`` where a folder is none of a model, and as ``require_plain``."""
    if (path / "config.json").is_file():
        require_plain(path, "model.path")
        return
    if (path / "adapter_config.json").is_file():
        raise MissingModel(
            f"model.path={path} holds an adapter: set model.adapter to it, and model.path to the model that it was "
            "trained on"
        )
    raise MissingModel(
        f"no model at {path}: put a model folder there (config.json, *.safetensors, tokenizer and processor files, for "
        "instance by `hf download`), or set model.path"
    )
