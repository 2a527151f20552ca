"""The frozen types that cross module boundaries.

Shape suffixes, here and everywhere: G completions of a group, T completion tokens (right-padded), P prompt tokens,
D hidden units, V words of the vocabulary, N rows of any kind. ``logps_GT`` is a float tensor of shape (G, T).

A worked example. The question "what color is the third one ?" about a video becomes one ``PromptInputs`` (ids with
the video placeholders expanded, pixels, explicit M-RoPE positions). The rollout engine answers it G = 8 times, each
answer a ``Completion`` of its own length, together a ``RolloutGroup``. Rewards and advantages turn the group into an
``Experience``, the unit that is scored, weighted and learned from.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

ProblemType = Literal["multiple choice", "numerical", "OCR", "free-form", "regression"]
PROBLEM_TYPES: tuple[str, ...] = ("multiple choice", "numerical", "OCR", "free-form", "regression")
MediaKind = Literal["video", "image"]


@dataclass(frozen=True)
class Clip:
    """A part of a video, from ``start`` to ``end`` in seconds; and ``fps``, that of a folder of frames."""

    start: float = 0.0
    end: float = math.inf
    fps: float = 3.0


WHOLE = Clip()


@dataclass(frozen=True)
class MediaFile:
    """A video or a picture that a question is about, as it lies on disk; a video may be a folder of its frames."""

    path: Path
    kind: MediaKind = "video"
    clip: Clip = WHOLE


@dataclass(frozen=True)
class Medium:
    """A video or a picture as the policy reads it: its grid of t·h·w patches, not yet merged.

    ``seconds_per_patch`` is the time between temporal patches of the *sampled* frames, from which positions are made
    here and in another engine; 0 for an image. ``seconds`` are the times of the temporal patches of a video.
    """

    kind: MediaKind
    grid_thw: tuple[int, int, int]
    seconds_per_patch: float = 0.0
    seconds: tuple[float, ...] = ()

    @property
    def num_patches(self) -> int:
        return math.prod(self.grid_thw)


@dataclass(frozen=True)
class VideoQuestion:
    """One row of a dataset: a question about videos and images, in the order of the prompt, with its answer.

    ``answer`` is the bare text inside the solution's ``<answer>`` tags; ``options`` is empty unless the problem is
    multiple choice; ``extra`` keeps the keys of the row that the Video-R1 format does not name (the embedded world puts
    its ground truth there).
    """

    id: str
    problem: str
    problem_type: ProblemType
    answer: str
    media: tuple[MediaFile, ...]
    options: tuple[str, ...] = ()
    reasoning: str | None = None
    source: str = ""
    category: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def seed(self, *context: object) -> int:
        """The seed of all that is random about the question in a context, such as (run's seed, step).

        Equal on any rank, in any batch and after a resume.
        """
        return zlib.crc32("/".join(map(str, (*context, self.id))).encode())


@dataclass(frozen=True)
class PromptInputs:
    """What the policy reads for one question: ids, explicit positions, and the pixels of its videos and images.

    ``input_ids_P`` holds one placeholder per merged visual token. ``positions_3P`` are M-RoPE positions by the original
    rule (text goes on after the largest position of a vision block). ``pixels_NC`` are the processor's flattened
    patches of all ``media``, one after the other in the order of the prompt.
    """

    question: VideoQuestion
    input_ids_P: Int[Tensor, " P"]
    positions_3P: Int[Tensor, "3 P"]
    pixels_NC: Float[Tensor, "N C"]
    media: tuple[Medium, ...]

    def by_medium(self, rows: Shaped[Tensor, "N *_"]) -> tuple[Shaped[Tensor, "n *_"], ...]:
        """The rows of each medium out of those of all: patches, or what patches were merged to."""
        num_patches = [medium.num_patches for medium in self.media]
        return rows.split([n * len(rows) // sum(num_patches) for n in num_patches])

    @property
    def num_tokens(self) -> int:
        return self.input_ids_P.shape[0]


@dataclass(frozen=True)
class Completion:
    """One sampled answer: token ids up to and including EOS, and the engine's log-probs of the sampled tokens.

    ``finish_reason`` is "stop" (EOS was sampled) or "length". ``weights_version`` is the version of the policy that
    sampled it. ``logps_T`` are under the sampling temperature, before top-p truncation, with the vision ids banned.
    """

    token_ids_T: Int[Tensor, " T"]
    logps_T: Float[Tensor, " T"]
    text: str
    finish_reason: Literal["stop", "length"]
    weights_version: int


@dataclass(frozen=True)
class RolloutGroup:
    """One question and its G completions: the unit of advantages, of scoring and of selection.

    ``contrast`` are completions of the same question about a changed video, where a reward compares with them. They are
    neither scored nor learned from. ``num_selected_G`` counts each completion's tokens with a weight, where a reward
    asks for it.
    """

    prompt: PromptInputs
    completions: tuple[Completion, ...]
    contrast: tuple[Completion, ...] = ()
    num_selected_G: Int[Tensor, " G"] | None = None

    @property
    def question(self) -> VideoQuestion:
        return self.prompt.question

    @property
    def num_tokens(self) -> int:
        """Tokens that were generated, of all completions."""
        return sum(len(completion.token_ids_T) for completion in self.completions)

    @cached_property
    def completion_ids_GT(self) -> Int[Tensor, "G T"]:
        return torch.nn.utils.rnn.pad_sequence([c.token_ids_T for c in self.completions], batch_first=True)

    @cached_property
    def completion_mask_GT(self) -> Bool[Tensor, "G T"]:
        """True on the tokens that were generated, EOS included; never on padding."""
        lengths = torch.tensor([len(c.token_ids_T) for c in self.completions])
        return torch.arange(int(lengths.max()))[None, :] < lengths[:, None]

    @cached_property
    def engine_logps_GT(self) -> Float[Tensor, "G T"]:
        return torch.nn.utils.rnn.pad_sequence([c.logps_T for c in self.completions], batch_first=True)


@dataclass(frozen=True)
class Distributions:
    """The full distribution behind each token of a group, as the hidden row and the head that give its logits.

    N·D numbers instead of N·V. The N rows are the True positions of ``completion_mask_GT`` in order; ``hidden_ND`` has
    a gradient where the pass had one. ``head`` is the policy's own, so that rows are read before its next update.
    ``token_head.log_probs`` turns some rows at a time into log-probs.
    """

    hidden_ND: Float[Tensor, "N D"]
    head: Callable[[Float[Tensor, "n D"]], Float[Tensor, "n V"]]
    completion_mask_GT: Bool[Tensor, "G T"]
    banned_ids: Int[Tensor, " B"]
    temperature: float = 1.0
    chunk_size: int = 512

    def detach(self) -> "Distributions":
        return replace(self, hidden_ND=self.hidden_ND.detach())


@dataclass(frozen=True)
class TokenScores:
    """Teacher-forced scores of a group's tokens under one view of the prompt; zero off the completion mask.

    Entropies are computed where they can matter: under the factual view, not under the counterfactual ones.
    """

    logps_GT: Float[Tensor, "G T"]
    entropies_GT: Float[Tensor, "G T"] | None = None
    distributions: Distributions | None = None

    def detach(self) -> "TokenScores":
        return TokenScores(
            self.logps_GT.detach(),
            None if self.entropies_GT is None else self.entropies_GT.detach(),
            None if self.distributions is None else self.distributions.detach(),
        )


@dataclass(frozen=True)
class TokenWeights:
    """What the loss weighs, and why: weights, the selected set of each signal, and the scores that led to them."""

    weights_GT: Float[Tensor, "G T"]
    selections: Mapping[str, Bool[Tensor, "G T"]] = field(default_factory=dict)
    scores: Mapping[str, Float[Tensor, "G T"]] = field(default_factory=dict)

    def detach(self) -> "TokenWeights":
        return replace(self, weights_GT=self.weights_GT.detach())


@dataclass(frozen=True)
class Experience:
    """A rollout group with its rewards and advantages. ``reward_parts`` maps a reward's name to its (G,) values."""

    group: RolloutGroup
    reward_parts: Mapping[str, Float[Tensor, " G"]]
    rewards_G: Float[Tensor, " G"]
    advantages_G: Float[Tensor, " G"]

    @property
    def has_signal(self) -> bool:
        """False where every advantage is zero, so that no policy gradient can come from this group."""
        return bool((self.advantages_G != 0).any())
