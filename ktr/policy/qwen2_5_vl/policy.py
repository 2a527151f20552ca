"""A Qwen2.5-VL folder as a policy: tower, language model and head called apart, with explicit positions and layout."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from peft import LoraConfig, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from ktr.errors import MissingModel
from ktr.policy.prefix_attention import PackedLayout, attention_name
from ktr.policy.tower_attention import TOWER_SDPA
from ktr.types import PromptInputs

_ADAPTER = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\.")
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


class QwenVLPolicy(nn.Module):
    """Qwen2.5-VL loaded from ``path``, an ordinary model folder.

    ``freeze`` names the parts that are not trained: vision, merger, language, embeddings, head. ``lora`` holds the
    arguments of peft's ``LoraConfig``; where it is given only the adapters are trained. ``attention`` is ``sdpa`` or
    ``flash_attention_2``. Raises ``MissingModel`` where the folder isn't there: nothing is ever fetched.
    """

    def __init__(
        self,
        path: str | Path,
        dtype: str = "float32",
        attention: str = "sdpa",
        freeze: Sequence[str] = (),
        lora: Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise MissingModel(
                f"no model at {self.path}: put a Qwen2.5-VL folder there (config.json, *.safetensors, tokenizer and "
                "processor files, for instance by `hf download`), or set model.path"
            )
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            self.path, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
        )
        self.tokenizer = AutoTokenizer.from_pretrained(self.path)
        self.model.set_attn_implementation(
            {"text_config": attention_name(attention), "vision_config": _tower_attention(attention)}
        )
        vision = cast(Qwen2_5_VLVisionConfig, self.model.config.vision_config)
        self.temporal_patch_size = cast(int, vision.temporal_patch_size)
        self.merge_area = vision.spatial_merge_size**2
        self._freeze(freeze)
        self._given_features: dict[int, Tensor] = {}
        self.has_adapters = lora is not None
        if lora is not None:
            self.model.requires_grad_(False)
            self.model.add_adapter(LoraConfig(**dict(lora)))
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        # A policy may not write placeholders: a completion that holds one could not be scored by any engine.
        banned = torch.tensor(sorted(_vision_token_ids(self.model.config, self.tokenizer)))
        self.banned_ids: Tensor
        self.black_patch_C: Tensor
        self.register_buffer("banned_ids", banned, persistent=False)
        self.register_buffer("black_patch_C", _black_patch(self.path, vision), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def head_weight(self) -> Float[Tensor, "V D"]:
        return self.model.lm_head.weight

    @property
    def eos_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def trains_vision(self) -> bool:
        return any(parameter.requires_grad for parameter in self.model.model.visual.parameters())

    def is_visual(self, ids: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """True on the placeholders that visual features fill."""
        return (ids == self.model.config.video_token_id) | (ids == self.model.config.image_token_id)

    def encode_video(self, prompts: Sequence[PromptInputs]) -> list[Float[Tensor, "_ D"]]:
        """Features of each prompt's video: one run of the tower for all of them, with gradient if it is trained."""
        if not torch.is_grad_enabled() and all(id(prompt) in self._given_features for prompt in prompts):
            return [self._given_features[id(prompt)] for prompt in prompts]
        pixels = torch.cat([prompt.pixels_NC for prompt in prompts])
        grids = [prompt.grid_thw for prompt in prompts]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_vision):
            features = self._run_tower(pixels, grids)
        return list(features.split([t * h * w // self.merge_area for t, h, w in grids]))

    @contextmanager
    def reusing_features(
        self, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "_ D"]]
    ) -> Iterator[None]:
        """Inside, encoding these very prompts without gradient returns ``features``: the tower runs once a video."""
        self._given_features = {id(prompt): f.detach() for prompt, f in zip(prompts, features, strict=True)}
        try:
            yield
        finally:
            self._given_features = {}

    def encode_pixels(self, pixels_NC: Float[Tensor, "N C"], grid_thw: tuple[int, int, int]) -> Float[Tensor, "M D"]:
        """Features of pixels that a view changed."""
        return self._run_tower(pixels_NC, [grid_thw])

    def _run_tower(self, pixels_NC: Float[Tensor, "N C"], grids: list[tuple[int, int, int]]) -> Float[Tensor, "M D"]:
        tower = self.model.model.visual
        pixels = pixels_NC.to(self.device, tower.dtype, non_blocking=True)
        return tower(pixels, grid_thw=torch.tensor(grids, device=self.device)).pooler_output

    def embed(
        self, input_ids: Int[Tensor, "..."], features_ND: Float[Tensor, "N D"] | None = None
    ) -> Float[Tensor, "... D"]:
        """Token embeddings, the placeholders filled with ``features_ND`` in order."""
        input_ids = input_ids.to(self.device)
        embeddings = self.model.get_input_embeddings()(input_ids)
        if features_ND is None or len(features_ND) == 0:
            return embeddings
        return embeddings.masked_scatter(self.is_visual(input_ids)[..., None], features_ND.to(embeddings.dtype))

    def hidden_states(
        self,
        input_ids_L: Int[Tensor, " L"],
        positions_3L: Int[Tensor, "3 L"],
        features_ND: Float[Tensor, "N D"],
        layout: PackedLayout,
    ) -> Float[Tensor, "L D"]:
        """Last hidden states of a packed row."""
        return self.model.model.language_model(
            inputs_embeds=self.embed(input_ids_L, features_ND)[None],
            position_ids=positions_3L[:, None].to(self.device),
            attention_mask={"full_attention": None},
            use_cache=False,
            layout=layout,
        ).last_hidden_state[0]

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """The policy as it was before LoRA: the reference, for free."""
        self.model.disable_adapters()
        try:
            yield
        finally:
            self.model.enable_adapters()

    def decode_tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token on its own."""
        return [self.tokenizer.decode([token]) for token in ids]

    @property
    def lora_rank(self) -> int:
        """The largest rank of an adapter; 0 without adapters."""
        return max((rank for layer in self._lora_layers().values() for rank in layer.r.values()), default=0)

    def named_weights(self, merge_adapters: bool = True) -> "NamedWeights":
        """The weights by their names in the plain model, adapters merged in or left out; what an engine loads."""
        return NamedWeights(self.model, self._lora_layers(), merge_adapters)

    def load_trained(self, folder: Path) -> None:
        """Take over the weights that ``save`` wrote to ``folder``. Raises ``MissingModel`` where there are none."""
        name = "adapter_model.safetensors" if self.has_adapters else "model.safetensors"
        if not (folder / name).is_file():
            raise MissingModel(f"no {name} in {folder}: it is not a checkpoint of this run")
        if self.has_adapters:
            set_peft_model_state_dict(self.model, load_file(folder / name))
            return
        # Through from_pretrained: the names in a model folder are not those of the modules.
        saved = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=self.model.dtype, local_files_only=True, use_safetensors=True
        )
        self.model.load_state_dict(saved.state_dict())

    def save(self, folder: Path, merge_adapters: bool = False) -> None:
        """Write an ordinary model folder: weights as safetensors, config, tokenizer, processor.

        With LoRA it holds the adapters only, or, with ``merge_adapters``, the whole model with them merged in.
        """
        model = self._merged() if merge_adapters and self.has_adapters else self.model
        model.save_pretrained(folder, max_shard_size="100GB")
        self.tokenizer.save_pretrained(folder)
        for name in _PROCESSOR_FILES:
            if (self.path / name).is_file():
                shutil.copyfile(self.path / name, folder / name)

    def save_adapters(self, folder: Path) -> None:
        """Write the adapters alone, in peft's layout."""
        self.model.save_pretrained(folder)

    def _lora_layers(self) -> dict[str, LoraLinear]:
        return {name: module for name, module in self.model.named_modules() if isinstance(module, LoraLinear)}

    @torch.no_grad()
    def _merged(self) -> Qwen2_5_VLForConditionalGeneration:
        """A copy of the base model with the adapters added to its weights."""
        merged = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            self.path, dtype=self.model.dtype, local_files_only=True, use_safetensors=True
        )
        weights = dict(self.named_weights())
        for name in self._lora_layers():
            cast(Tensor, merged.get_submodule(name).weight).copy_(weights[f"{name}.weight"])
        return merged

    def _freeze(self, parts: Sequence[str]) -> None:
        model = self.model.model
        modules: dict[str, list[nn.Module]] = {
            "vision": [model.visual.patch_embed, model.visual.blocks],
            "merger": [model.visual.merger],
            "language": [model.language_model.layers, model.language_model.norm],
            "embeddings": [model.language_model.embed_tokens],
            "head": [self.model.lm_head],
        }
        for part in parts:
            if part not in modules:
                raise ValueError(f"model.freeze: no part {part!r}; choose from {sorted(modules)}")
            for module in modules[part]:
                module.requires_grad_(False)


class NamedWeights:
    """(name, tensor) pairs of a model as if it had no adapters; each pass makes merged tensors one at a time."""

    def __init__(self, model: nn.Module, lora_layers: Mapping[str, LoraLinear], merge: bool):
        self._model, self._lora_layers, self._merge = model, lora_layers, merge

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._model.state_dict().items():
            layer_name, _, rest = name.partition(".base_layer.")
            layer = self._lora_layers.get(layer_name)
            if rest and layer is not None:
                if rest == "weight" and self._merge:
                    deltas = [cast(Tensor, layer.get_delta_weight(adapter)) for adapter in layer.active_adapters]
                    tensor = tensor + torch.stack(deltas).sum(0).to(tensor)
                yield f"{layer_name}.{rest}", tensor
            elif not _ADAPTER.search(name):
                yield name, tensor


def _tower_attention(attention: str) -> str:
    return "flash_attention_2" if attention == "flash_attention_2" else TOWER_SDPA


def _vision_token_ids(config: Any, tokenizer: Any) -> set[int]:
    ids = {config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id}
    vocabulary = tokenizer.get_vocab()
    return ids | {vocabulary[word] for word in ("<|vision_pad|>",) if word in vocabulary}


def _black_patch(path: Path, vision: Any) -> Float[Tensor, " C"]:
    """A flattened patch of a black frame, normalised as the folder's processor does."""
    processor = Qwen2VLImageProcessor.from_pretrained(path)
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    return (-mean / std).repeat_interleave(vision.temporal_patch_size * vision.patch_size**2)
