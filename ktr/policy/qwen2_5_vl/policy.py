"""A Qwen2.5-VL folder as a policy: tower, language model and head called apart, with explicit positions and layout."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from ktr.errors import MissingModel
from ktr.policy.family import Grid, KeyValueCache, Policy
from ktr.policy.lora import NamedWeights, lora_layers, merge_into
from ktr.policy.packed_row import PackedRow
from ktr.policy.prefix_attention import attention_name
from ktr.policy.tower_attention import TOWER_SDPA
from ktr.token_head import token_logps

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


class QwenVLPolicy(Policy):
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
        self.has_adapters = lora is not None
        if lora is not None:
            self.model.requires_grad_(False)
            self.model.add_adapter(LoraConfig(**dict(lora)))
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        banned = torch.tensor(sorted(_vision_token_ids(self.model.config, self.tokenizer)))
        self.register_buffer("banned_ids", banned, persistent=False)
        self.register_buffer("black_patch_C", _black_patch(self.path, vision), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def trains_vision(self) -> bool:
        return any(parameter.requires_grad for parameter in self.model.model.visual.parameters())

    def is_visual(self, ids: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        return (ids == self.model.config.video_token_id) | (ids == self.model.config.image_token_id)

    def run_tower(self, pixels_NC: Float[Tensor, "N C"], grids: Sequence[Grid]) -> Float[Tensor, "M F"]:
        tower = self.model.model.visual
        pixels_NC = pixels_NC.to(self.device, tower.dtype, non_blocking=True)
        return tower(pixels_NC, grid_thw=torch.tensor(grids, device=self.device)).pooler_output

    def score_row(
        self, row: PackedRow, temperature: float, chunk_size: int, entropy: bool
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"] | None, Float[Tensor, "M D"]]:
        hidden_LD = self.model.model.language_model(
            inputs_embeds=self._embed(row.input_ids_L, row.features_NF)[None],
            position_ids=row.positions_3L[:, None].to(self.device),
            attention_mask={"full_attention": None},
            use_cache=False,
            layout=row.layout,
        ).last_hidden_state[0]
        hidden_MD, targets_M = hidden_LD[row.predictors_M.to(self.device)], row.targets_M.to(self.device)
        weight_VD = self.model.lm_head.weight
        logps_M, entropies_M = token_logps(
            hidden_MD, weight_VD, targets_M, self.banned_ids, temperature, chunk_size, entropy
        )
        return logps_M, entropies_M, hidden_MD

    def decode(
        self,
        input_ids_NS: Int[Tensor, "N S"],
        positions_3NS: Int[Tensor, "3 N S"],
        visible_N1SL: Bool[Tensor, "N 1 S L"],
        cache: KeyValueCache,
        features_MF: Float[Tensor, "M F"] | None = None,
    ) -> Float[Tensor, "N V"]:
        hidden_NSD = self.model.model.language_model(
            inputs_embeds=self._embed(input_ids_NS, features_MF),
            position_ids=positions_3NS,
            attention_mask={"full_attention": visible_N1SL},
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return self.head(hidden_NSD[:, -1])

    def head(self, hidden_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        return F.linear(hidden_ND, self.model.lm_head.weight)

    def _embed(self, input_ids: Int[Tensor, "..."], features_NF: Float[Tensor, "N F"] | None) -> Float[Tensor, "... D"]:
        """Token embeddings, the placeholders filled with ``features_NF`` in order."""
        input_ids = input_ids.to(self.device)
        embeddings = self.model.get_input_embeddings()(input_ids)
        if features_NF is None or len(features_NF) == 0:
            return embeddings
        return embeddings.masked_scatter(self.is_visual(input_ids)[..., None], features_NF.to(embeddings.dtype))

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        self.model.disable_adapters()
        try:
            yield
        finally:
            self.model.enable_adapters()

    @property
    def lora_rank(self) -> int:
        return max((rank for layer in lora_layers(self.model).values() for rank in layer.r.values()), default=0)

    def named_weights(self, merge_adapters: bool = True) -> NamedWeights:
        return NamedWeights(self.model, merge_adapters)

    def load_trained(self, folder: Path) -> None:
        name = "adapter_model.safetensors" if self.has_adapters else "model.safetensors"
        if not (folder / name).is_file():
            raise MissingModel(f"no {name} in {folder}: it is not a checkpoint of this run")
        if self.has_adapters:
            set_peft_model_state_dict(self.model, load_file(folder / name))
            return
        # Through from_pretrained: the names in a model folder are not those of the modules.
        self.model.load_state_dict(self._load(folder).state_dict())

    def save(self, folder: Path, merge_adapters: bool = False) -> None:
        model = self.model
        if merge_adapters and self.has_adapters:
            model = self._load(self.path)
            merge_into(model, self.model)
        model.save_pretrained(folder, max_shard_size="100GB")
        self.tokenizer.save_pretrained(folder)
        for name in _PROCESSOR_FILES:
            if (self.path / name).is_file():
                shutil.copyfile(self.path / name, folder / name)

    def save_adapters(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    def _load(self, folder: Path) -> Qwen2_5_VLForConditionalGeneration:
        return Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=self.model.dtype, local_files_only=True, use_safetensors=True
        )

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
