"""What a pass with gradient keeps, and the most that is alive in it, against torch's own tensors.

Every storage that an operation makes is counted until it is gone: the memory of a run without an allocator's rounding.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.small_model import random_group, write_model_folder
from ktr.attribution.views import Factual
from ktr.config.composing import compose
from ktr.plan.activations import Activations
from ktr.plan.architecture import read_architecture
from ktr.plan.memory import memory
from ktr.plan.options import Options, read_card
from ktr.plan.parameters import trained
from ktr.plan.settings import RunSettings, Span, read_settings
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.scoring.packing import pack
from ktr.scoring.views import apply_view
from ktr.types import Medium
from tests.unit.plan.matched_gradient import gradient_of_all

FREEZE = ("vision", "merger")
LORA = {"r": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
VOCABULARY, CHUNK = 2048, 64
pytestmark = pytest.mark.usefixtures("mask_for_a_causal_bias")


class Alive(TorchDispatchMode):
    """Bytes of the storages that were made inside and are not gone, at their most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is None or storage._cdata in given or storage._cdata in self._sizes:
                continue
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, storage._cdata)
        return made

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


@contextmanager
def keeping(policy: Policy) -> Iterator[dict[int, torch.Tensor]]:
    """Inside, filled with one tensor of each storage that backward keeps beside the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept.setdefault(place, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("wide"), hidden=256, layers=3, vocabulary=VOCABULARY)


def settings(folder: Path, dtype: str, is_mixed: bool, checkpointing: bool, lora: Any) -> RunSettings:
    config: Any = OmegaConf.to_container(compose("train", []), resolve=True)
    run = read_settings(config, read_architecture(folder), Options())
    run = replace(run, dtype=dtype, is_mixed=is_mixed, gradient_checkpointing=checkpointing, lora=lora, freeze=FREEZE)
    return replace(run, chunk_size=CHUNK, views=(), engine="")


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize(("dtype", "is_mixed"), [("float32", False), ("float32", True), ("bfloat16", False)])
def test_what_an_update_holds(folder: Path, dtype: str, is_mixed: bool, checkpointing: bool, lora: Any):
    policy = load_policy(folder, dtype=dtype, gradient_checkpointing=checkpointing, freeze=FREEZE, lora=lora).train()
    group = random_group([64] * 4, (Medium("video", (2, 20, 24), 1.0),), vocabulary=VOCABULARY)
    with torch.no_grad():
        (features_NF,) = policy.encode_video([group.prompt])
    row = pack([group], [apply_view(Factual(), policy, group.prompt, features_NF, 0)])
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad])
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    def score() -> torch.Tensor:
        precision = torch.autocast("cpu", torch.bfloat16, cache_enabled=False) if is_mixed else nullcontext()
        with precision:
            return policy.score_row(row, 1.0, CHUNK, entropy=True)[0]

    with keeping(policy) as kept:
        score()
    bytes_kept = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del kept
    with Alive() as alive:
        score().sum().backward()
    states = [state for of_one in optimizer.state.values() for state in of_one.values() if state.ndim]
    held = [*policy.parameters(), *(p.grad for p in policy.parameters() if p.grad is not None), *states]
    measured = sum(tensor.nbytes for tensor in held) + alive.peak

    run, model = settings(folder, dtype, is_mixed, checkpointing, lora), read_architecture(folder)
    parameters, spans = trained(model, FREEZE, lora), [Span(group.prompt.num_tokens, 4, 64)]
    planned = Activations(model, parameters, run)
    if not checkpointing:  # checkpoints hold their own arguments
        # With LoRA nothing before the first adapter learns, and keeps less than the plan says.
        assert planned.kept(spans) == pytest.approx(bytes_kept, rel=1e-3 if lora is None else 0.03)
    assert planned.peak(spans) == pytest.approx(alive.peak, rel=0.1)
    resident = memory(model, parameters, run, read_card("h100"), Options()).resident
    whole = sum(resident[part] for part in ("weights", "gradients", "optimizer states")) + planned.peak(spans)
    assert whole == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("freeze", "lora"), [(FREEZE, None), ((*FREEZE, "head"), None), (FREEZE, LORA)], ids=["full", "no head", "lora"]
)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize(("dtype", "is_mixed"), [("float32", True), ("bfloat16", False)])
def test_what_the_gradient_of_all_tokens_of_a_matched_update_holds(
    folder: Path, dtype: str, is_mixed: bool, checkpointing: bool, freeze: tuple[str, ...], lora: Any
):
    policy = load_policy(folder, dtype=dtype, gradient_checkpointing=checkpointing, freeze=freeze, lora=lora).train()
    group = random_group([64] * 4, (Medium("video", (2, 20, 24), 1.0),), vocabulary=VOCABULARY)
    with torch.no_grad():
        (features_NF,) = policy.encode_video([group.prompt])
    precision = torch.autocast("cpu", torch.bfloat16, cache_enabled=False) if is_mixed else nullcontext()
    with precision, Alive() as alive:
        gradient_of_all(policy, group, features_NF, CHUNK)
    run, model = settings(folder, dtype, is_mixed, checkpointing, lora), read_architecture(folder)
    run = replace(run, is_matched=True, max_tokens=64, num_completions=4, prompt_tokens=group.prompt.num_tokens)
    run = replace(run, visual_tokens=0, questions_per_step=1)
    update = memory(model, trained(model, freeze, lora), run, read_card("h100"), Options()).phases["update"]
    copies = lora is not None and checkpointing and is_mixed  # of weights, while adapters are computed again
    assert sum(update.values()) == pytest.approx(alive.peak, rel=0.2 if copies else 0.1)
