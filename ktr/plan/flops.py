"""Floating-point operations of each pass, two for a multiplication and its addition: what FlopCounterMode counts.

Counted are matrix products, convolutions and attention, whose masked half counts too; norms, softmax and rotations are
not. Attention runs backward with 2.5 times its forward products, for a fused kernel computes its scores again. Of a
checkpointed layer all but the last product is computed again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ktr.plan.architecture import Architecture
from ktr.plan.parameters import Parameter
from ktr.plan.settings import Span

_ATTENTION_BACKWARD = 2.5
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Flops:
    """Counts operations of a model whose ``parameters`` are trained or not."""

    model: Architecture
    parameters: Sequence[Parameter]

    def forward(self, spans: Sequence[Span], entropy: bool = False) -> float:
        """A packed row through language model and head; with the entropies of its targets."""
        targets = sum(span.targets for span in spans)
        return self._layers(spans) + self.head(targets) + 2 * targets * self.model.vocabulary * entropy

    def recomputed(self, spans: Sequence[Span]) -> float:
        """What backward computes again of checkpointed layers."""
        tokens, model = sum(span.tokens for span in spans), self.model
        down = 2 * tokens * model.hidden * model.intermediate * model.layers
        return self._layers(spans) - down * max(1, model.experts_per_token)

    def backward(self, spans: Sequence[Span], checkpointing: bool = False) -> float:
        """Of the factual pass: the head computes its logits again, and a frozen matrix has no gradient of its own.

        Without what is ``recomputed``.
        """
        model, tokens = self.model, sum(span.tokens for span in spans)
        targets = sum(span.targets for span in spans)
        head_trained = any(p.is_trained and "head" in p.parts for p in self.parameters)
        total: float = self.head(targets) * (2 + head_trained)
        begins = any(p.is_trained and set(p.parts) & {"embeddings", "vision", "merger"} for p in self.parameters)
        # transformers asks for the gradient of the embeddings where adapters meet checkpoints.
        begins |= checkpointing and any(p.is_adapter for p in self.parameters)
        layers = [p for p in self.parameters if ".layers." in p.name]
        first = 0 if begins else min((_number(p) for p in layers if p.is_trained), default=model.layers)
        # In the first layer that learns nothing is asked of its input, unless something before it learns.
        reached = begins or any(p.is_trained and p.name.endswith(f".{first}.input_layernorm.weight") for p in layers)
        for p in layers:
            if _number(p) < first or not (p.is_linear or _is_low_rank(p) or _is_expert(p, model)):
                continue
            ends_here = not reached and _number(p) == first and p.module.endswith(_ENDS)
            total += 2 * tokens * self._active(p) * (p.is_trained + (not ends_here))
        attention = self._attention(spans) * (model.layers - first) / model.layers
        return total + _ATTENTION_BACKWARD * attention

    def of_all_tokens(self, spans: Sequence[Span]) -> float:
        """The row forward and backward once more, as ``TokenGradients`` runs it for updates that are matched.

        Backward through the head twice where it learns. Else the last layer is run behind its attention, forward and
        backward, for targets alone. Without what is ``recomputed``.
        """
        tokens, targets = (sum(getattr(span, of) for span in spans) for of in ("tokens", "targets"))
        total = self.forward(spans) + self.backward(spans)
        if any(p.is_trained and "head" in p.parts for p in self.parameters):
            return total + 3 * self.head(targets)
        last = f".layers.{self.model.layers - 1}."
        behind = (p for p in self.parameters if last in p.name and (".o_proj." in p.name or ".mlp." in p.name))
        for p in behind:
            if p.is_linear or _is_low_rank(p) or _is_expert(p, self.model):
                backward = 1 + p.is_trained
                total += 2 * self._active(p) * (targets * (1 + backward) - tokens * backward)
        return total

    def head(self, rows: int) -> float:
        return 2 * rows * self.model.hidden * self.model.vocabulary

    def tower(self, grids: Iterable[Grid]) -> float:
        """Videos through the vision tower and its mergers."""
        model, tower = self.model, self.model.tower
        grids = list(grids)
        patches = sum(t * h * w for t, h, w in grids)
        total = 2.0 * patches * tower.patch_numbers * tower.hidden
        total += sum(2 * self._tower_rows(p, patches) * p.count for p in self._tower_products())
        return total + self._tower_attention(grids, model)

    def tower_backward(self, grids: Iterable[Grid]) -> float:
        """What of the tower learns, and what lies behind it."""
        grids = list(grids)
        patches = sum(t * h * w for t, h, w in grids)
        blocks_learn = any(p.is_trained and "vision" in p.parts for p in self.parameters)
        total = 0.0
        for p in self._tower_products():
            learns = blocks_learn or any(q.is_trained and "merger" in q.parts for q in self.parameters)
            if learns and (blocks_learn or "merger" in p.parts):
                total += 2 * self._tower_rows(p, patches) * p.count * (1 + p.is_trained)
        if blocks_learn:
            total += _ATTENTION_BACKWARD * self._tower_attention(grids, self.model)
            learned = any(p.is_trained and len(p.shape) == 5 for p in self.parameters)
            total += 2 * patches * self.model.tower.patch_numbers * self.model.tower.hidden * learned
        return total

    def prefill(self, prompts: int, tokens: int) -> float:
        """Prompts into the cache, and the logits of their last rows."""
        return self._layers([Span(tokens, 1, 0)] * prompts) + self.head(prompts)

    def decoding(self, rows: int, context: int, length: int) -> float:
        """``rows`` completions of ``length`` tokens behind ``context`` tokens of prompt each."""
        model = self.model
        keys = length * context + length * (length + 1) / 2
        attention = 4 * model.q_width * model.layers * keys
        return rows * (length * (2 * self._per_token() + self.head(1)) + attention)

    def _layers(self, spans: Sequence[Span]) -> float:
        return 2 * sum(span.tokens for span in spans) * self._per_token() + self._attention(spans)

    def _per_token(self) -> float:
        """Weights of the decoder layers that one token is multiplied with."""
        layers = (p for p in self.parameters if ".layers." in p.name)
        return sum(self._active(p) for p in layers if p.is_linear or _is_low_rank(p) or _is_expert(p, self.model))

    def _active(self, parameter: Parameter) -> float:
        if ".experts." in parameter.name:
            return parameter.count / self.model.experts * self.model.experts_per_token
        return parameter.count

    def _attention(self, spans: Sequence[Span]) -> float:
        return 4 * self.model.q_width * self.model.layers * sum(map(_pairs, spans))

    def _tower_products(self) -> Iterable[Parameter]:
        return (p for p in self.parameters if ".visual." in p.name and (p.is_linear or _is_low_rank(p)))

    def _tower_rows(self, parameter: Parameter, patches: int) -> int:
        return patches // self.model.tower.merge_area if "merger" in parameter.parts else patches

    @staticmethod
    def _tower_attention(grids: Sequence[Grid], model: Architecture) -> float:
        tower = model.tower
        full = sum(t * (h * w) ** 2 for t, h, w in grids)
        windows = sum(t * _window_pairs(h, tower.window) * _window_pairs(w, tower.window) for t, h, w in grids)
        num_full = len(tower.full)
        return 4 * tower.hidden * (num_full * full + (tower.depth - num_full) * windows)


_ENDS = ("q_proj", "k_proj", "v_proj", "q_proj.lora_A", "k_proj.lora_A", "v_proj.lora_A")


def _pairs(span: Span) -> int:
    """Query and key pairs of the attention calls of a group: one call of one completion, or prompt and completions."""
    if span.completions == 1:
        return span.tokens**2
    return span.prompt**2 + span.targets * (span.prompt + span.length)


def _window_pairs(side: int, window: int) -> int:
    """Pairs along one side that is cut into windows."""
    if not window:
        return side**2
    whole, rest = divmod(side, window)
    return whole * window**2 + rest**2


def _number(parameter: Parameter) -> int:
    return int(parameter.name.partition(".layers.")[2].partition(".")[0])


def _is_low_rank(parameter: Parameter) -> bool:
    return ".lora_" in parameter.name and parameter.name.endswith(".weight") and len(parameter.shape) == 2


def _is_expert(parameter: Parameter, model: Architecture) -> bool:
    return bool(model.experts) and (".experts." in parameter.name or parameter.name.endswith(".mlp.gate.weight"))
