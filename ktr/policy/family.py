"""What a family of models is to the rest of ktr: a policy with five forwards, and what a family has to say for them.

    run_tower    pixels ─► features, one row for each merged visual token
    score_row    packed row, features ─► log-probs and entropies of its targets, a chunk of rows at a time
    decode       prompts into a key-value cache, and rows behind them ─► logits of the next word of each
    head         hidden rows ─► logits, for what compares whole distributions
    finish_rows  attended rows of the last layer ─► hidden rows, for what asks how each token acts on its own

Nothing else computes with weights, so that whoever shards them has five methods to gather around; what is pushed,
saved or counted reads them by name. A family is a subclass that gives its model's class, the tower, the hidden states
and the parts that can be frozen; its ids and positions are made by an encoder of its own (``PromptInputs``).

Features are rows of F numbers, and all that a view does to a video it does to rows: permute, zero, leave out. A family
that feeds more than one vector for a visual token (Qwen3-VL adds some to the hidden states of its first layers) holds
them side by side, F = D·(1 + layers), and takes them apart itself. ``is_visual`` says which tokens of a prompt the rows
fill, in order; they may be several blocks, with words between them (Qwen3-VL writes the time before each).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from ktr.errors import ConfigError
from ktr.policy.folder_model import Dtype, FolderModel, require_config
from ktr.policy.lora import (
    adapted_modules,
    add_adapters,
    lora_rank,
    merge_folder,
    only_merged,
)
from ktr.policy.packed_row import PackedRow
from ktr.policy.prefix_attention import attention_name
from ktr.policy.tokenizer import load_tokenizer
from ktr.policy.tower_attention import TOWER_SDPA
from ktr.token_head import token_logps
from ktr.types import PromptInputs

log = logging.getLogger(__name__)

Grid = tuple[int, int, int]


class Policy(FolderModel, ABC):
    """A model loaded from ``path``, an ordinary model folder, that is trained and asked.

    ``freeze`` names the parts that are not trained: vision, merger, language, embeddings, head. ``adapter`` is a folder
    of PEFT's whose adapter is merged in: part of the start and the reference. ``lora`` holds the arguments of PEFT's
    ``LoraConfig`` (see ``ktr.policy.lora``); where it is given only the new adapters are trained. ``attention`` is
    ``sdpa`` or ``flash_attention_2``, ``dtype`` may be ``auto``: as the folder's weights are. Raises ``MissingModel``
    where a folder isn't there or lacks weights, for nothing is ever fetched or drawn, and as ``require_config``.

    ``banned_ids`` may not be written: a completion that holds a placeholder could not be scored by any engine.
    ``black_patch_C`` is a flattened patch of a black frame. ``temporal_patch_size`` frames are a temporal patch,
    ``merge_area`` patches a visual token. ``time_in`` says where a prompt has the seconds of a video: in its
    ``positions``, in ``text`` before each temporal patch, which then is a block of its own, or nowhere. ``has_experts``
    is True of a mixture of experts.
    """

    time_in: ClassVar[Literal["positions", "text"] | None] = None
    has_experts: ClassVar[bool] = False
    banned_ids: Tensor
    black_patch_C: Tensor

    def __init__(
        self,
        path: str | Path,
        dtype: Dtype = "float32",
        attention: str = "sdpa",
        freeze: Sequence[str] = (),
        adapter: str | Path | None = None,
        lora: Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.path = Path(path)
        require_config(self.path)
        self.model: Any = self._load(self.path, "auto" if dtype == "auto" else getattr(torch, dtype))
        if adapter is not None:
            merge_folder(self.model, Path(adapter))
        self.tokenizer = load_tokenizer(self.path)
        tower_attention = TOWER_SDPA if attention == "sdpa" else attention
        self.model.set_attn_implementation({"text_config": attention_name(attention), "vision_config": tower_attention})
        if "sliding_attention" in (getattr(self.model.config.get_text_config(), "layer_types", None) or ()):
            raise ConfigError(
                f"{path}: its config.json has layers with a sliding window, and a packed row attends to all of its "
                "prompt; set use_sliding_window to false there"
            )
        vision = self.model.config.vision_config
        self.temporal_patch_size = cast(int, vision.temporal_patch_size)
        self.merge_area = cast(int, vision.spatial_merge_size) ** 2
        frozen = self._frozen(freeze)
        for module in frozen:
            module.requires_grad_(False)
        self.has_adapters = lora is not None
        if lora is not None:
            add_adapters(self.model, lora, frozen)
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        banned = torch.tensor(sorted(_vision_token_ids(self.model.config, self.tokenizer)))
        self.register_buffer("banned_ids", banned, persistent=False)
        self.register_buffer("black_patch_C", _black_patch(self.path, vision), persistent=False)
        self._given_features: dict[int, Tensor] = {}

    def forward(self, run: Callable[[], Any]) -> Any:
        """One of the five forwards as the module's own, for whoever gathers weights around it."""
        return run()

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Module]]:
        """The modules of each part that can be frozen: vision, merger, language, embeddings, head."""

    @abstractmethod
    def run_tower(self, pixels_NC: Float[Tensor, "N C"], grids: Sequence[Grid]) -> Float[Tensor, "M F"]:
        """Features of the patches of videos and pictures, one after the other."""

    @abstractmethod
    def hidden_states(
        self,
        input_ids_NS: Int[Tensor, "N S"],
        positions_3NS: Int[Tensor, "3 N S"],
        features_MF: Float[Tensor, "M F"] | None,
        visible: Bool[Tensor, "_ 1 _ L"] | None,
        **attention: Any,
    ) -> Float[Tensor, "N S D"]:
        """Last hidden states, the placeholders filled with ``features_MF`` in order.

        ``visible`` says which of L tokens each token sees, of a shared prompt in a step of ``decode``; None where
        ``attention`` does (the layout of a packed row). ``attention`` goes to every layer.
        """

    @property
    @abstractmethod
    def decoder_layers(self) -> nn.ModuleList:
        """The language model's layers; each has an output projection at ``self_attn.o_proj``."""

    @abstractmethod
    def own_row_parts(self) -> list[nn.Module]:
        """The modules of the last layer behind its attention: there a token acts through its own row alone."""

    @abstractmethod
    def finish_rows(self, attended_ND: Float[Tensor, "N _"], residual_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Last hidden states of rows that attended, ``residual_ND`` beside: ``own_row_parts``, and the final norm."""

    def score_row(
        self, row: PackedRow, temperature: float, chunk_size: int, entropy: bool
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"] | None, Float[Tensor, "M D"]]:
        """Log-probs of the row's targets, with gradient where grad mode is on; entropies; hidden rows before the head.

        The distribution is that at ``temperature`` with ``banned_ids`` left out. Logits exist for ``chunk_size`` rows
        at a time (``token_head``).
        """
        hidden_LD = self.hidden_states(
            row.input_ids_L[None], row.positions_3L[:, None], row.features_NF, None, use_cache=False, layout=row.layout
        )[0]
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
        cache: Any,
        features_MF: Float[Tensor, "M F"] | None = None,
    ) -> Float[Tensor, "R V"]:
        """Logits of the next word: of each prompt of a packed row, or, once ``cache`` holds it, of R = N rows behind.

        ``cache`` is what transformers' layers ``update`` with the keys and values of these tokens. It says how they
        attend (``attention``, ``mask``), and which of them, one after the other, predict (``predictors``).
        """
        hidden_NSD = self.hidden_states(
            input_ids_NS,
            positions_3NS,
            features_MF,
            cache.mask,
            use_cache=True,
            past_key_values=cache,
            **cache.attention,
        )
        return F.linear(hidden_NSD.flatten(0, 1)[cache.predictors], self.model.lm_head.weight)

    def head(self, hidden_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Logits of hidden rows."""
        return F.linear(hidden_ND, self.model.lm_head.weight)

    def embed(self, input_ids: Int[Tensor, "..."], vectors_MD: Float[Tensor, "M D"] | None) -> Float[Tensor, "... D"]:
        """Token embeddings, the placeholders filled with ``vectors_MD`` in order."""
        input_ids = input_ids.to(self.device)
        embeddings = self.model.get_input_embeddings()(input_ids)
        if vectors_MD is None or len(vectors_MD) == 0:
            return embeddings
        return embeddings.masked_scatter(self.is_visual(input_ids)[..., None], vectors_MD.to(embeddings.dtype))

    def encode_video(self, prompts: Sequence[PromptInputs]) -> list[Float[Tensor, "_ F"]]:
        """Features of each prompt's media: one run of the tower for all of them, with gradient if it is trained."""
        if not torch.is_grad_enabled() and all(id(prompt) in self._given_features for prompt in prompts):
            return [self._given_features[id(prompt)] for prompt in prompts]
        pixels_NC = torch.cat([prompt.pixels_NC for prompt in prompts])
        media = [medium for prompt in prompts for medium in prompt.media]
        is_learning = torch.is_grad_enabled() and self.trains_vision
        self.model.model.visual.train(is_learning)  # activations are checkpointed in training mode alone
        with torch.set_grad_enabled(is_learning):
            features_MF = self.run_tower(pixels_NC, [medium.grid_thw for medium in media])
        return list(features_MF.split([len(prompt.pixels_NC) // self.merge_area for prompt in prompts]))

    @contextmanager
    def reusing_features(
        self, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "_ F"]]
    ) -> Iterator[None]:
        """Inside, encoding these very prompts without gradient returns ``features``: the tower runs once."""
        self._given_features = {id(prompt): f.detach() for prompt, f in zip(prompts, features, strict=True)}
        try:
            yield
        finally:
            self._given_features = {}

    @property
    def device(self) -> torch.device:
        """Where it computes: the parts of a policy that is spread may lie elsewhere."""
        return self.banned_ids.device

    @cached_property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion: the tokenizer's own, which a demonstration ends with, first.

        The folder's generation_config may name more, such as <|endoftext|> beside <|im_end|>.
        """
        own, others = int(self.tokenizer.eos_token_id), self.model.generation_config.eos_token_id
        others = [] if others is None else others if isinstance(others, list) else [others]
        return tuple(dict.fromkeys([own, *map(int, others)]))

    @property
    def trains_vision(self) -> bool:
        """Whether the tower has a parameter that is trained, so that its features change with an update."""
        return any(parameter.requires_grad for parameter in self.model.model.visual.parameters())

    def is_visual(self, ids: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """True on the placeholders that visual features fill."""
        return (ids == self.model.config.video_token_id) | (ids == self.model.config.image_token_id)

    def decode_tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token on its own."""
        return [self.tokenizer.decode([token]) for token in ids]

    def switch_off_dropout(self) -> None:
        """For good: log-probs that are compared, between passes or with an engine's, are those of one policy."""
        active = [module for module in self.modules() if isinstance(module, nn.Dropout) and module.p > 0]
        for module in active:
            module.p = 0.0
        if active:
            log.warning("dropout is off: log-probs are compared between passes; it acts in supervised training only")

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """The policy as it was before LoRA: the reference, for free."""
        adapted = adapted_modules(self.model).values()
        for module in adapted:
            module.enable_adapters(False)
        try:
            yield
        finally:
            for module in adapted:  # transformers' own enable_adapters would leave modules_to_save off
                module.enable_adapters(True)

    @property
    def lora_rank(self) -> int:
        """The largest rank of an adapter; 0 without adapters."""
        return lora_rank(self.model)

    @property
    def only_merged(self) -> str | None:
        """What of the adapters can reach an engine merged only; None where it may load all of them as they are."""
        return only_merged(self.model)

    def _frozen(self, names: Sequence[str]) -> list[nn.Module]:
        parts = self.parts()
        for name in names:
            if name not in parts:
                raise ConfigError(f"model.freeze: no part {name!r}; choose from {', '.join(sorted(parts))}")
        return [module for name in names for module in parts[name]]


def _vision_token_ids(config: Any, tokenizer: Any) -> set[int]:
    ids = {config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id}
    vocabulary = tokenizer.get_vocab()
    return ids | {vocabulary[word] for word in ("<|vision_pad|>",) if word in vocabulary}


def _black_patch(path: Path, vision: Any) -> Float[Tensor, " C"]:
    """A flattened patch of a black frame, normalised as the folder's processor does."""
    processor = Qwen2VLImageProcessor.from_pretrained(path)
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    return (-mean / std).repeat_interleave(vision.temporal_patch_size * vision.patch_size**2)
