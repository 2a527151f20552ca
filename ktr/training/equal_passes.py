"""As many passes on every rank: what a sharded policy needs, for each of its forwards gathers weights from all ranks.

A rank has fewer passes than another where its rewards are equal, its rows fewer, or where an image needs no view that a
video does. Before each pass the ranks therefore tell each other what they want to run next. The first kind in the order
below is run, by those that have nothing of it on a row of two tokens, or a picture of one, with a gradient of zero. A
rank that has come to a meeting runs such until all others have come there too.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from enum import IntEnum
from functools import partial
from math import isqrt
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from ktr.policy.family import Policy
from ktr.policy.packed_row import GroupSpan, PackedLayout, PackedRow
from ktr.training.feature_graph import Features, backward_through_cut
from ktr.training.sharding import is_gathered


class OwnPasses:
    """Each rank runs its own passes and no others: weights are whole on every rank."""

    def meet(self) -> None:
        """Where ranks are to be before they exchange anything after passes."""

    def backward_through_cut(self, features: Features, leaves: Features) -> None:
        """Run what gathered on the leaves through the tower's graph, once."""
        backward_through_cut(features, leaves)


class Kind(IntEnum):
    """A pass of the policy, or of a reference; those with gradient run backward before the next but for the tower's."""

    TOWER, ROW, HEAD = 0, 1, 2
    REFERENCE_TOWER, REFERENCE_ROW = 3, 4
    LEARNED_TOWER, LEARNED_HEAD, LEARNED_ROW = 5, 6, 7
    TOWER_BACKWARD = 8
    MEETING = 9


class EqualPasses(OwnPasses):
    """Has the ranks run the passes of ``policy``, and of a reference, in step. To be made on all ranks.

    Tower, rows and head are run as a forward of the policy, around which it gathers its weights; ``decode`` and
    ``finish_rows`` where all are gathered, and there nothing is in step.
    """

    def __init__(self, policy: Policy, time_limit: timedelta | None = None) -> None:
        self._policy = policy
        # Its own: other exchanges may run beside, in threads.
        self._group = dist.new_group(backend="gloo", timeout=time_limit)
        self._models: list[Policy] = []
        self._waiting_tower: Tensor | None = None  # features of a picture that nothing is learned from
        self._head_is_here = False  # gathered for the row that was scored last
        self._plain: dict[Kind, Callable[..., Any]] = {}
        self._add(policy, Kind.TOWER, Kind.ROW)
        plain_head = policy.head
        self._plain[Kind.HEAD] = self._plain[Kind.LEARNED_HEAD] = partial(self._run, policy, plain_head)
        instance = cast(Any, policy)
        instance.head = partial(self._head, plain_head)
        instance.without_adapters = partial(self._without_adapters, policy.without_adapters)

    def add_reference(self, policy: Policy) -> None:
        """Have the passes of a second policy in step too."""
        self._add(policy, Kind.REFERENCE_TOWER, Kind.REFERENCE_ROW)

    def meet(self) -> None:
        self._take_turn(Kind.MEETING)
        self._head_is_here = False
        for model in self._models:
            cast(FSDPModule, model).reshard()

    def backward_through_cut(self, features: Features, leaves: Features) -> None:
        """As one rank does; a rank whose features earned no gradient runs one of zero."""
        learned = [(f, leaf) for f, leaf in zip(features, leaves, strict=True) if f.requires_grad]
        if learned:
            self._take_turn(Kind.TOWER_BACKWARD)
            grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for _, leaf in learned]
            torch.autograd.backward([feature for feature, _ in learned], grads)

    def _add(self, model: Policy, tower: Kind, row: Kind) -> None:
        for name, kind in (("run_tower", tower), ("score_row", row)):
            plain = getattr(model, name)
            for each in (kind, Kind.LEARNED_TOWER if kind is Kind.TOWER else Kind.LEARNED_ROW):
                self._plain.setdefault(each, partial(self._run, model, plain))
            setattr(model, name, partial(self._in_step, model, kind, plain))
        self._models.append(model)

    def _in_step(self, model: Policy, kind: Kind, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if is_gathered(model):
            return plain(*args, **kwargs)
        if torch.is_grad_enabled():
            kind = Kind.LEARNED_TOWER if kind is Kind.TOWER else Kind.LEARNED_ROW
        self._take_turn(kind)
        outputs = self._run(model, plain, *args, **kwargs)
        self._head_is_here = kind in (Kind.ROW, Kind.LEARNED_ROW)
        return outputs

    def _head(self, plain: Callable[..., Any], hidden_ND: Tensor) -> Tensor:
        """A part of the pass before, where that scored a row whose distributions are compared; else one of its own."""
        if self._head_is_here or is_gathered(self._policy):
            return plain(hidden_ND)
        self._take_turn(Kind.LEARNED_HEAD if torch.is_grad_enabled() else Kind.HEAD)
        return self._run(self._policy, plain, hidden_ND)

    @contextmanager
    def _without_adapters(self, plain: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Switched on spread weights both times: PEFT freezes what it switches off, and what is gathered is a copy."""
        root = cast(FSDPModule, self._policy)
        root.reshard()
        with plain():
            try:
                yield
            finally:
                root.reshard()

    def _run(self, model: Policy, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        cast(FSDPModule, model).reshard()  # what is left from the pass before is not the same on all ranks
        self._head_is_here = False
        return model(partial(plain, *args, **kwargs))

    def _take_turn(self, kind: Kind) -> None:
        """Returns when ``kind`` is next; until then runs, with no weight, what other ranks want before it."""
        while True:
            first = torch.tensor(int(kind))
            dist.all_reduce(first, op=dist.ReduceOp.MIN, group=self._group)
            if int(first) == kind:
                return
            self._run_for_others(Kind(int(first)))

    def _run_for_others(self, kind: Kind) -> None:
        run = self._plain.get(kind)
        with torch.set_grad_enabled(kind >= Kind.LEARNED_TOWER):
            match kind:
                case Kind.TOWER_BACKWARD:
                    waiting, self._waiting_tower = cast(Tensor, self._waiting_tower), None
                    waiting.backward(torch.zeros_like(waiting))
                    return
                case Kind.TOWER | Kind.REFERENCE_TOWER | Kind.LEARNED_TOWER:
                    self._policy.model.model.visual.train(kind is Kind.LEARNED_TOWER)  # as encode_video does
                    outputs = cast(Any, run)(*_one_visual_token(self._policy))
                case Kind.HEAD | Kind.LEARNED_HEAD:
                    width = self._policy.model.config.get_text_config().hidden_size
                    outputs = cast(Any, run)(torch.zeros(1, width, device=self._policy.device))
                case _:
                    outputs = cast(Any, run)(_two_tokens(self._policy), 1.0, 1, False)[0]
        if kind is Kind.LEARNED_TOWER:
            self._waiting_tower = outputs
        elif kind >= Kind.LEARNED_TOWER:
            (0.0 * outputs.sum()).backward()


def _one_visual_token(policy: Policy) -> tuple[Tensor, list[tuple[int, int, int]]]:
    side = isqrt(policy.merge_area)
    return policy.black_patch_C.expand(policy.merge_area, -1), [(1, side, side)]


def _two_tokens(policy: Policy) -> PackedRow:
    """A prompt and a completion of one word each, without media."""
    ids_L = torch.full((2,), policy.eos_token_ids[0])
    layout = PackedLayout((GroupSpan(start=0, prompt_length=1, lengths=(1,)),))
    first_M = torch.zeros(1, dtype=torch.long)
    return PackedRow(ids_L, torch.arange(2).expand(3, -1), torch.zeros(0, 1), layout, first_M, ids_L[1:])
