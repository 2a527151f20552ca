"""The gradients of the parts of many batches of one policy's rollouts, without an update, and their inner products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.importance import mismatch
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.scored_group import FirstUpdate, ScoredGroup
from ktr.errors import ConfigError
from ktr.evaluation.attribution import LabelTokens
from ktr.policy.family import Policy
from ktr.scoring.scorer import GroupScorer
from ktr.study.parts import ALL, OTHER, PartMaker
from ktr.training.token_gradients import TokenGradients, pulls
from ktr.types import Experience

CHUNK = 65_536  # coordinates that are multiplied at a time


@dataclass
class PartGradients:
    """Takes batches one by one; each is what an update would learn from.

    ``gradients_PBD`` are of the policy loss with respect to all D weights that are trained: P parts, B batches. Token
    counts are of groups whose rewards differ, for no other teaches. ``parts_error`` is the largest of any batch of
    ‖sum of the kinds − all‖ / ‖all‖. Raises ``ConfigError`` where they would take more than ``max_gib``.
    """

    policy: Policy
    scorer: GroupScorer
    loss: ClippedSurrogate
    parts: PartMaker
    label: LabelTokens | None
    num_batches: int
    max_gib: float
    num_tokens: dict[str, float] = field(default_factory=dict)
    num_teaching: int = 0
    parts_error: float = 0.0

    def __post_init__(self) -> None:
        self.parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        size = sum(parameter.numel() for parameter in self.parameters)
        names = self.parts.names
        gib = len(names) * self.num_batches * size * 4 / 2**30
        if gib > self.max_gib:
            raise ConfigError(
                f"gradients of {len(names)} parts, {self.num_batches} batches and {size:,} trained weights take "
                f"{gib:.1f} GiB, max_gib={self.max_gib:g}: freeze parts of the policy (model.freeze), lower "
                "num_groups, or raise max_gib"
            )
        self.gradients_PBD = torch.zeros(len(names), self.num_batches, size)
        self.num_tokens = dict.fromkeys(names, 0.0)

    def add(self, batch: int, experiences: Sequence[Experience], seeds: Sequence[int]) -> None:
        """The gradients of the batch with this number; ``seeds`` are of its questions."""
        teaching = [(experience, seed) for experience, seed in zip(experiences, seeds) if experience.has_signal]
        self.num_teaching += len(teaching)
        if not teaching:
            return
        counts = (
            sum(len(experience.group.completions) for experience in experiences),
            sum(experience.group.num_tokens for experience in experiences),
        )
        to_learn, parts = self._scored(*map(list, zip(*teaching)))
        of_loss = [pulls(self.loss, scored, counts) for scored in to_learn]
        num_tokens = {name: sum(float(part_GT.sum()) for part_GT in part) for name, part in parts.items()}
        num_threads = torch.get_num_threads() if self.parameters[0].device.type == "cpu" else 1
        gradients, _ = TokenGradients(self.policy, self.scorer, self.parameters, num_threads).of_parts(
            to_learn, of_loss, {name: parts[name] for name, number in num_tokens.items() if number}, token_norms=False
        )
        names = self.parts.names
        for name, gradient in gradients.items():
            self.gradients_PBD[names.index(name), batch] = torch.cat([g.float().flatten() for g in gradient]).cpu()
            self.num_tokens[name] += num_tokens[name]
        whole_D = self.gradients_PBD[names.index(ALL), batch]
        kinds_D = sum(self.gradients_PBD[names.index(kind), batch] for kind in (*self.parts.kinds, OTHER))
        self.parts_error = max(self.parts_error, float((kinds_D - whole_D).norm() / whole_D.norm()))

    @torch.no_grad()
    def _scored(
        self, experiences: list[Experience], seeds: list[int]
    ) -> tuple[list[ScoredGroup], Mapping[str, list[Float[Tensor, "G T"]]]]:
        groups = [experience.group for experience in experiences]
        features = self.policy.encode_video([group.prompt for group in groups])
        weighed = self.scorer.weigh(self.policy, groups, features, self.parts.weighting, seeds)
        to_learn, parts = [], {name: [] for name in self.parts.names}
        for experience, feature_NF, seed, (scores, weights) in zip(experiences, features, seeds, weighed, strict=True):
            labels = None if self.label is None else self.label(experience.group)
            for name, part_GT in self.parts.of_group(scores, weights, labels).items():
                parts[name].append(part_GT)
            logps_GT, mask_GT = scores.factual.logps_GT, scores.completion_mask_GT
            drift = mismatch(logps_GT, experience.group.engine_logps_GT.to(logps_GT.device), mask_GT)
            advantages_G = experience.advantages_G.to(logps_GT.device)
            first = FirstUpdate(scores.factual, weights, logps_GT, advantages_G, drift, None)
            to_learn.append(ScoredGroup(experience, feature_NF, None, seed, first=first))
        return to_learn, parts

    def products(self) -> Float[np.ndarray, "P B P B"]:
        """The inner products of all gradients."""
        return inner_products(self.gradients_PBD)

    def scaled_products(self, eps: float) -> Float[np.ndarray, "P B P B"]:
        """The same in AdamW's metric, each coordinate by 1 / (√v + ε), v the mean square of the whole gradient."""
        whole_BD = self.gradients_PBD[self.parts.names.index(ALL)]
        return inner_products(self.gradients_PBD, 1 / (whole_BD.square().mean(0).sqrt() + eps))


def inner_products(
    gradients_PBD: Float[Tensor, "P B D"], scale_D: Float[Tensor, " D"] | None = None
) -> Float[np.ndarray, "P B P B"]:
    """Inner products, each coordinate times ``scale_D``; summed in double precision."""
    rows_ND = gradients_PBD.flatten(0, 1)
    products_NN = torch.zeros(len(rows_ND), len(rows_ND), dtype=torch.float64)
    for start in range(0, rows_ND.shape[1], CHUNK):
        piece_Nd = rows_ND[:, start : start + CHUNK]
        if scale_D is not None:
            piece_Nd = piece_Nd * scale_D[start : start + CHUNK].sqrt()
        products_NN += piece_Nd @ piece_Nd.T
    return products_NN.view(*gradients_PBD.shape[:2], *gradients_PBD.shape[:2]).numpy()
