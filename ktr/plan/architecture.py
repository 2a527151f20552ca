"""The numbers of a model that the plan computes with: of its folder's config.json, or of a published model's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ktr.config.model_folder import families, family_of
from ktr.errors import MissingModel

_PUBLISHED = Path(__file__).with_name("models.json")


@dataclass(frozen=True)
class Tower:
    """The vision tower. ``window`` is the side of a window in patches, 0 of a tower without; ``full`` its other blocks.

    ``deepstack`` blocks have a merger of their own, whose features go to the first decoder layers.
    """

    depth: int
    hidden: int
    intermediate: int
    patch: int
    temporal_patch: int
    merge: int
    window: int
    full: tuple[int, ...]
    deepstack: tuple[int, ...]
    positions: int

    @property
    def patch_numbers(self) -> int:
        """Numbers of a flattened patch."""
        return 3 * self.temporal_patch * self.patch**2

    @property
    def merge_area(self) -> int:
        return self.merge**2


@dataclass(frozen=True)
class Architecture:
    """A model by its numbers; ``experts`` is 0 where each layer has one MLP."""

    family: str
    dtype: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    experts: int
    experts_per_token: int
    tower: Tower

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @cached_property
    def is_qwen3(self) -> bool:
        return self.family.startswith("qwen3")

    @property
    def features(self) -> int:
        """Numbers of a visual token's row of features."""
        return self.hidden * (1 + len(self.tower.deepstack))


def read_architecture(folder: Path) -> Architecture:
    """Of ``model.path``: its config.json, or where it isn't there the published model that its name begins with.

    Raises ``MissingModel`` where neither is known, and ``ConfigError`` where ktr has no such family.
    """
    if (folder / "config.json").is_file():
        family = family_of(folder)
        return architecture(family, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    published: dict[str, Any] = json.loads(_PUBLISHED.read_text(encoding="utf-8"))
    names = [name for name in published if folder.name.startswith(name)]
    if not names:
        raise MissingModel(
            f"model.path={folder}: no model there, and none of that name is known; put its config.json there, or name "
            f"the folder as one of {', '.join(published)}"
        )
    facts = published[max(names, key=len)]
    return architecture(facts["model_type"], facts)


def architecture(family: str, config: Mapping[str, Any]) -> Architecture:
    """Of what a config.json holds, as transformers writes it today or before 4.52 (the text's numbers at its root)."""
    assert family in families()
    text, vision = config.get("text_config") or config, config["vision_config"]
    heads = text["num_attention_heads"]
    is_experts = family.endswith("_moe")
    return Architecture(
        family=family,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or "float32"),
        hidden=text["hidden_size"],
        intermediate=text["moe_intermediate_size"] if is_experts else text["intermediate_size"],
        layers=text["num_hidden_layers"],
        heads=heads,
        kv_heads=text["num_key_value_heads"],
        head_dim=text.get("head_dim") or text["hidden_size"] // heads,
        vocabulary=text["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        experts=text.get("num_experts", text.get("num_local_experts")) if is_experts else 0,
        experts_per_token=text["num_experts_per_tok"] if is_experts else 0,
        tower=_tower(family, vision),
    )


def _tower(family: str, vision: Mapping[str, Any]) -> Tower:
    hidden = vision["embed_dim"] if family == "qwen2_vl" else vision["hidden_size"]
    intermediate = int(hidden * vision["mlp_ratio"]) if family == "qwen2_vl" else vision["intermediate_size"]
    is_windowed = family == "qwen2_5_vl"
    return Tower(
        depth=vision["depth"],
        hidden=hidden,
        intermediate=intermediate,
        patch=vision["patch_size"],
        temporal_patch=vision["temporal_patch_size"],
        merge=vision["spatial_merge_size"],
        window=vision["window_size"] // vision["patch_size"] if is_windowed else 0,
        full=tuple(vision["fullatt_block_indexes"]) if is_windowed else tuple(range(vision["depth"])),
        deepstack=tuple(vision.get("deepstack_visual_indexes") or ()),
        positions=vision.get("num_position_embeddings", 0),
    )
