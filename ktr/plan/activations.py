"""What a pass with gradient keeps for backward, tensor by tensor, and what it holds beside at its fullest.

A number of the residual stream has the bytes of the weights, one that a product reads those of the autocast; under
autocast each product keeps its own copy of its input and its weight. Attention is fused: it keeps its inputs, its
output and a sum for each query, never scores. On a CPU a mask stands for the causal bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ktr.plan.architecture import Architecture
from ktr.plan.parameters import Parameter
from ktr.plan.settings import RunSettings, Span

_LOGITS_COPIES = 3  # of a chunk's logits in fp32: themselves, and two on the way to probabilities


@dataclass(frozen=True)
class Activations:
    """Bytes of the passes of one run. ``parameters`` say which matrices keep their input."""

    model: Architecture
    parameters: Sequence[Parameter]
    settings: RunSettings

    def peak(self, spans: Sequence[Span]) -> int:
        """The most that a packed row holds: in the head's backward, or in that of the last layer, behind it."""
        layers, again = self._layers(spans), self.layer(spans) * self.settings.gradient_checkpointing
        in_head = layers + self._behind_layers(spans) + self.head(sum(span.targets for span in spans))
        return max(in_head, layers + again + self._layer_backward(spans))

    def kept(self, spans: Sequence[Span]) -> int:
        """What a packed row keeps until its backward has run; of checkpointed layers their inputs only."""
        return self._layers(spans) + self._behind_layers(spans)

    def of_all_tokens(self, spans: Sequence[Span]) -> int:
        """What the second pass of a matched update holds beside: a gradient of a row, and the sums of all rows.

        Where no head learns also the last layer, behind its attention, of targets; of checkpointed layers all that it
        computes again.
        """
        gradients = 2 * sum(p.count for p in self.parameters if p.is_trained) * self.settings.weight_bytes
        if any(p.is_trained and "head" in p.parts for p in self.parameters):
            return gradients
        targets = [Span(0, span.completions, span.length) for span in spans]
        return gradients + self.layer(spans if self.settings.gradient_checkpointing else targets)

    def layer(self, spans: Sequence[Span]) -> int:
        """What one decoder layer keeps: all that backward of a checkpointed one computes again, too."""
        model, compute = self.model, self.settings.compute_bytes
        tokens = sum(span.tokens for span in spans)
        inner = model.intermediate * max(1, model.experts_per_token)
        attended = model.q_width * compute
        learns = self._keeps_input("input_layernorm")
        kept = 2 * self._norm(tokens, model.hidden, learns)
        if model.is_qwen3:
            kept += self._norm(tokens, model.q_width, learns) + self._norm(tokens, model.kv_width, learns)
        for readers in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
            reading = sum(self._keeps_input(name) for name in readers)
            copies = reading if self.settings.casts_weights else min(1, reading)
            kept += copies * tokens * model.hidden * compute
        kept += tokens * (model.q_width + 2 * model.kv_width) * compute
        kept += sum(self._attention(span) for span in spans)
        kept += tokens * attended * self._keeps_input("o_proj")
        kept += tokens * inner * compute * (3 + self._keeps_input("down_proj"))
        if self.settings.casts_weights:
            kept += compute * sum(p.count for p in self._layer_parameters() if p.is_linear or p.is_adapter)
        return kept + tokens * compute * sum(
            p.shape[0] for p in self._layer_parameters() if p.name.endswith("A.weight")
        )

    def head(self, targets: int) -> int:
        """A chunk of logits, and the gradient of the head's weight in the precision of its products."""
        model, settings = self.model, self.settings
        rows = min(settings.chunk_size, targets)
        logits = rows * model.vocabulary * (4 * _LOGITS_COPIES + 2 * (settings.compute_bytes == 2))
        learns = any(p.is_trained and "head" in p.parts for p in self.parameters)
        weight = model.vocabulary * model.hidden
        return logits + weight * learns * (settings.compute_bytes + settings.weight_bytes * settings.casts_weights)

    def tower(self, patches: int) -> int:
        """What a trained tower keeps from the rollouts to the end of the update: never checkpointed there."""
        tower, compute = self.model.tower, self.settings.compute_bytes
        learned = {part for p in self.parameters if p.is_trained for part in p.parts}
        if not learned & {"vision", "merger"}:
            return 0
        # Each merger: its norm, what its first product reads, and both sides of its activation.
        mergers = 1 + len(tower.deepstack)
        kept = mergers * (self._norm(patches, tower.hidden, True) + 3 * patches * tower.hidden * compute)
        if "vision" in learned:
            reads = 3 * tower.hidden * compute * (1 + self.settings.casts_weights)
            inside = (8 * tower.hidden + 4 * tower.intermediate) * compute
            kept += tower.depth * (2 * self._norm(patches, tower.hidden, True) + patches * (reads + inside))
        return kept

    def tower_forward(self, patches: int) -> int:
        """What a block of the tower holds while it runs."""
        tower, compute = self.model.tower, self.settings.compute_bytes
        return patches * (3 * tower.intermediate * compute + (6 * 4 + 4 * compute) * tower.hidden)

    def _layers(self, spans: Sequence[Span]) -> int:
        tokens, residual = sum(span.tokens for span in spans), self.settings.weight_bytes
        layer = tokens * self.model.hidden * residual if self.settings.gradient_checkpointing else self.layer(spans)
        rotation = 2 * tokens * self.model.head_dim * residual
        return self.model.layers * layer + rotation + 9 * tokens  # ids, and where they are visual

    def _behind_layers(self, spans: Sequence[Span]) -> int:
        """The last norm, and the rows and the weight that the head reads."""
        model, compute = self.model, self.settings.compute_bytes
        tokens, targets = sum(span.tokens for span in spans), sum(span.targets for span in spans)
        copy = model.vocabulary * model.hidden * compute if self.settings.casts_weights else 0
        norm = self._norm(tokens, model.hidden, self._keeps_input("input_layernorm"))
        return norm + targets * model.hidden * compute + copy

    def _layer_backward(self, spans: Sequence[Span]) -> int:
        """What the backward of one layer holds at its fullest beside what was kept: at the end of the MLP."""
        model, compute, tokens = self.model, self.settings.compute_bytes, sum(span.tokens for span in spans)
        rows = tokens * (model.intermediate * compute + 2 * model.hidden * self.settings.weight_bytes)
        largest = max((p.count for p in self._layer_parameters() if p.is_linear and p.is_trained), default=0)
        adapted = any(p.is_adapter and ".down_proj." in p.name for p in self._layer_parameters())
        # An adapter reads the inner rows in the precision of its own weights.
        return rows + largest * compute + tokens * model.intermediate * self.settings.weight_bytes * adapted

    def _norm(self, rows: int, width: int, learns: bool) -> int:
        """A norm in fp32: its input, a factor for each row, and the normalised rows where its weight learns."""
        return rows * (width * (4 + self.settings.weight_bytes * learns) + 4)

    def _attention(self, span: Span) -> int:
        """What the attention calls of a group keep beside the row's own queries, keys and values."""
        model, compute = self.model, self.settings.compute_bytes
        out = model.q_width * compute + 4 * model.heads
        if span.completions == 1:
            return span.tokens * out
        keys = 2 * span.completions * (span.prompt + span.length) * model.kv_width * compute
        mask = 0 if self.settings.is_gpu else span.length * (span.prompt + span.length) * compute
        return span.prompt * out + span.targets * (out + model.q_width * compute) + keys + mask

    def _keeps_input(self, name: str) -> bool:
        """Whether backward needs what the matrix, or an adapter beside it, was given."""
        return any(p.is_trained and f".{name}." in p.name for p in self._layer_parameters())

    def _layer_parameters(self) -> list[Parameter]:
        return [p for p in self.parameters if ".layers.0." in p.name]
