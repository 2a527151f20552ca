"""What a family of models is to the rest of ktr: a module with four forwards, and what must be known of its inputs.

    run_tower    pixels ─► features, one row for each merged visual token
    score_row    packed row, features ─► log-probs and entropies of its targets, a chunk of rows at a time
    decode       the next word of each row of a batch, behind a key-value cache ─► logits
    head         hidden rows ─► logits, for what compares whole distributions

Nothing else computes with weights, so that whoever shards them has four methods to gather around; what is pushed,
saved or counted reads them by name.

Features are rows of F numbers, and all that a view does to a video it does to rows: permute, zero, leave out. A family
that feeds more than one vector for a visual token (Qwen3-VL adds some to the hidden states of its first layers) holds
them side by side, F = D·(1 + layers), and takes them apart itself. ``is_visual`` says which tokens of a prompt the rows
fill, in order; they may be several blocks, with words between them (Qwen3-VL writes the time before each). Ids and
positions are made by the family's encoder (``PromptInputs``), and only continued here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ktr.policy.packed_row import PackedRow
from ktr.types import PromptInputs

Grid = tuple[int, int, int]


@runtime_checkable
class KeyValueCache(Protocol):
    """What ``decode`` writes keys and values into: ``update`` once a layer."""

    def update(
        self, key: Float[Tensor, "N K S d"], value: Float[Tensor, "N K S d"], layer_idx: int
    ) -> tuple[Float[Tensor, "N K L d"], Float[Tensor, "N K L d"]]: ...


class Policy(nn.Module, ABC):
    """A video language model that is trained and asked; see the module for the four forwards.

    ``path`` is the model folder that it was loaded from. ``banned_ids`` may not be written: a completion that holds a
    placeholder could not be scored by any engine. ``black_patch_C`` is a flattened patch of a black frame.
    ``temporal_patch_size`` frames are a temporal patch, ``merge_area`` patches a visual token.
    """

    path: Path
    tokenizer: Any
    banned_ids: Tensor
    black_patch_C: Tensor
    temporal_patch_size: int
    merge_area: int
    has_adapters: bool

    def __init__(self) -> None:
        super().__init__()
        self._given_features: dict[int, Tensor] = {}

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype: ...

    @property
    @abstractmethod
    def trains_vision(self) -> bool:
        """Whether the tower has a parameter that is trained, so that its features change with an update."""

    @abstractmethod
    def is_visual(self, ids: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """True on the placeholders that visual features fill."""

    @abstractmethod
    def run_tower(self, pixels_NC: Float[Tensor, "N C"], grids: Sequence[Grid]) -> Float[Tensor, "M F"]:
        """Features of the patches of one or several videos, one after the other."""

    @abstractmethod
    def score_row(
        self, row: PackedRow, temperature: float, chunk_size: int, entropy: bool
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"] | None, Float[Tensor, "M D"]]:
        """Log-probs of the row's targets, with gradient where grad mode is on; entropies; hidden rows before the head.

        The distribution is that at ``temperature`` with ``banned_ids`` left out. Logits exist for ``chunk_size`` rows
        at a time (``token_head``).
        """

    @abstractmethod
    def decode(
        self,
        input_ids_NS: Int[Tensor, "N S"],
        positions_3NS: Int[Tensor, "3 N S"],
        visible_N1SL: Bool[Tensor, "N 1 S L"],
        cache: KeyValueCache,
        features_MF: Float[Tensor, "M F"] | None = None,
    ) -> Float[Tensor, "N V"]:
        """Logits of the next word of each row; the keys and values of its S tokens go into ``cache``.

        ``visible_N1SL`` says which of the L tokens in the cache, these included, each token sees. ``features_MF`` fill
        the placeholders of all rows, in order.
        """

    @abstractmethod
    def head(self, hidden_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Logits of hidden rows."""

    @property
    @abstractmethod
    def lora_rank(self) -> int:
        """The largest rank of an adapter; 0 without adapters."""

    @abstractmethod
    def without_adapters(self) -> AbstractContextManager[None]:
        """The policy as it was before LoRA: the reference, for free."""

    @abstractmethod
    def named_weights(self, merge_adapters: bool = True) -> Iterable[tuple[str, Tensor]]:
        """The weights by their names in the plain model, adapters merged in or left out; what an engine loads."""

    @abstractmethod
    def load_trained(self, folder: Path) -> None:
        """Take over the weights that ``save`` wrote to ``folder``. Raises ``MissingModel`` where there are none."""

    @abstractmethod
    def save(self, folder: Path, merge_adapters: bool = False) -> None:
        """Write an ordinary model folder: weights as safetensors, config, tokenizer, processor.

        With LoRA it holds the adapters only, or, with ``merge_adapters``, the whole model with them merged in.
        """

    @abstractmethod
    def save_adapters(self, folder: Path) -> None:
        """Write the adapters alone, in peft's layout."""

    @property
    def eos_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def decode_tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token on its own."""
        return [self.tokenizer.decode([token]) for token in ids]

    def encode_video(self, prompts: Sequence[PromptInputs]) -> list[Float[Tensor, "_ F"]]:
        """Features of each prompt's video: one run of the tower for all of them, with gradient if it is trained."""
        if not torch.is_grad_enabled() and all(id(prompt) in self._given_features for prompt in prompts):
            return [self._given_features[id(prompt)] for prompt in prompts]
        pixels_NC = torch.cat([prompt.pixels_NC for prompt in prompts])
        grids = [prompt.grid_thw for prompt in prompts]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_vision):
            features_MF = self.run_tower(pixels_NC, grids)
        return list(features_MF.split([t * h * w // self.merge_area for t, h, w in grids]))

    @contextmanager
    def reusing_features(
        self, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "_ F"]]
    ) -> Iterator[None]:
        """Inside, encoding these very prompts without gradient returns ``features``: the tower runs once a video."""
        self._given_features = {id(prompt): f.detach() for prompt, f in zip(prompts, features, strict=True)}
        try:
            yield
        finally:
            self._given_features = {}
