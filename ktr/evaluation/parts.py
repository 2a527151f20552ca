"""What each part of a run must have, and what it must give: checked before any rollout, on a group that is made up.

A part is held to the Protocol or base class of its kind, member by member. One that ktr doesn't ship is also called
once, with two short completions of a real question, so that a wrong shape or kind of result stops no run at its first
step.
"""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ktr.algorithm.advantage import Advantage
from ktr.algorithm.entropy_minority import BatchWeighting
from ktr.algorithm.importance import ImportanceCorrection
from ktr.algorithm.loss import ClippedSurrogate, LossTerms
from ktr.algorithm.penalties import Penalty
from ktr.algorithm.ratios import Ratio
from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.selection import Selection
from ktr.attribution.signals import Signal
from ktr.attribution.views import View
from ktr.config.keys import nearest
from ktr.errors import ConfigError, KtrError, RowError
from ktr.evaluation.made_up_group import MadeUpGroup
from ktr.rewards.composite import BatchReward, CheckingReward, CompositeReward, Reward
from ktr.types import Medium, RolloutGroup, TokenWeights, VideoQuestion

KINDS: dict[str, type] = {
    "advantage": Advantage, "reward.rewards": Reward, "weighting": TokenWeighting, "attribution.signals": Signal,
    "selection": Selection, "loss": ClippedSurrogate, "loss.ratio": Ratio, "loss.penalties": Penalty,
    "rollout.correction": ImportanceCorrection,
}  # fmt: skip


def check_parts(parts: dict[str, Any], question: VideoQuestion) -> None:
    """Raise ConfigError where one of ``parts``, by its key, lacks what its kind must have, or gives something else.

    A key is one of ``KINDS``, or an entry below it (``reward.rewards.brevity``). None stands for a part that is off.
    """
    made_up = MadeUpGroup.about(question)
    for key, part in parts.items():
        if part is None:
            continue
        name = key if key in KINDS else key.rpartition(".")[0]
        check_members(key, part, KINDS[name])
        if not _of_ktr(part):
            try:
                with torch.random.fork_rng(devices=[]):  # what a part draws here, no step misses
                    check_result(name, key, part, made_up)
            except KtrError:
                raise
            except Exception as error:  # someone else's code may raise anything
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ConfigError(
                    f"{key}: {_name(part)} failed at a made-up group of two completions ({why})"
                ) from error


def weighting_parts(weighting: Any) -> dict[str, Any]:
    """A weighting and what it is made of, by key."""
    signals = getattr(weighting, "signals", None) or {}
    found = {"selection": getattr(weighting, "selection", None), "weighting": weighting}
    return {f"attribution.signals.{name}": signal for name, signal in signals.items()} | found


def loss_parts(loss: Any) -> dict[str, Any]:
    """A loss and what it is made of, by key."""
    penalties = getattr(loss, "penalties", None) or {}
    found = {f"loss.penalties.{name}": penalty for name, penalty in penalties.items()}
    return found | {"loss": loss, "loss.ratio": getattr(loss, "ratio", None)}


def reward_parts(reward: CompositeReward) -> dict[str, Any]:
    """The parts of a reward, by key."""
    return {f"reward.rewards.{name}": part for name, part in getattr(reward, "rewards", {}).items()}


def check_members(key: str, part: Any, kind: type) -> None:
    """Raise ConfigError where ``part`` lacks a member of ``kind``, or has a method that takes other arguments."""
    is_protocol = getattr(kind, "_is_protocol", False)
    if not is_protocol and not isinstance(part, kind):
        raise ConfigError(f"{key}: {_name(part)} is no {kind.__module__}.{kind.__name__}: derive it from that class")
    for name, wanted in _members(kind):
        needs = f"; a {kind.__name__} ({kind.__module__}) needs it"
        if not hasattr(part, name) or (name == "__call__" and not callable(part)):
            own = [other for other in dir(part) if not other.startswith("_")]
            close = nearest(name, own)
            raise ConfigError(f"{key}: {_name(part)} has no {name}" + (f" (it has {close})" if close else "") + needs)
        if wanted is not None:
            _check_arguments(key, part, name, wanted, needs)


def _check_arguments(key: str, part: Any, name: str, wanted: inspect.Signature, needs: str) -> None:
    given = [parameter.name for parameter in wanted.parameters.values() if parameter.name != "self"]
    try:
        own = inspect.signature(part if name == "__call__" else getattr(part, name))
    except (TypeError, ValueError):  # of compiled code nothing is known
        return
    try:
        own.bind(*given)
    except TypeError as error:
        raise ConfigError(f"{key}: {_name(part)}.{name}{own} does not take ({', '.join(given)}){needs}") from error


def _members(kind: type) -> Iterator[tuple[str, inspect.Signature | None]]:
    """Names that an object of the kind must have, with the signature where it is a method without a body of its own."""
    for base in kind.__mro__:
        if base.__module__ in ("builtins", "typing", "abc"):
            continue
        for name in dict.fromkeys([*getattr(base, "__annotations__", {}), *vars(base)]):
            if name.startswith("_") and name != "__call__":
                continue
            member = vars(base).get(name)
            if isinstance(member, property) or not callable(member):
                yield name, None
            else:
                yield name, inspect.signature(member)


def check_result(name: str, key: str, part: Any, made_up: MadeUpGroup) -> None:
    """Call a part of the kind ``name`` as a run would, and look at what it gives. Raises ConfigError."""
    (G, T), group = made_up.shape, made_up.group
    mask_GT = group.completion_mask_GT
    logps_GT = torch.where(mask_GT, -torch.ones(G, T), 0.0).requires_grad_()
    old_GT = logps_GT.detach()
    told = f"{key}: {_name(part)}"
    match name:
        case "reward.rewards":
            if isinstance(part, CheckingReward):
                try:
                    part.check(group.question)
                except RowError:  # it cannot judge this question, and will not be asked to
                    return
            read = made_up.as_read_by(part)
            of_group = part.score_groups([read])[0] if isinstance(part, BatchReward) else part(read)
            _check_tensor(told, of_group, (G,), None)
        case "advantage":
            _check_tensor(told, part(torch.arange(float(G))), (G,), None)
        case "loss.ratio":
            ratio_GT = part(logps_GT, old_GT, mask_GT)
            _check_tensor(told, ratio_GT, (G, T), mask_GT)
            _check_learns(told, ratio_GT)
        case "loss.penalties":
            added_GT = part(logps_GT, made_up.scores(_views(told, part, group)).views)
            _check_tensor(told, torch.where(mask_GT, added_GT, 0.0), (G, T), mask_GT)
        case "loss":
            weights_GT = torch.where(mask_GT, 1.0, 0.0)
            advantages_G = torch.linspace(-1, 1, G)
            terms = part(logps_GT, old_GT, old_GT, advantages_G, mask_GT, weights_GT, G, group.num_tokens)
            _check_is(told, terms, LossTerms)
            for field in fields(LossTerms):
                _check_tensor(f"{told}: {field.name}", getattr(terms, field.name), (), None)
            _check_learns(told, terms.loss)
        case "rollout.correction":
            _check_tensor(told, part(old_GT, old_GT, mask_GT), (G, T), mask_GT)
        case "selection":
            chosen_GT = part(torch.where(mask_GT, 1.0, 0.0), mask_GT, made_up.ends_GT)
            _check_tensor(told, chosen_GT, (G, T), mask_GT, may_be_bool=True)
        case "attribution.signals":
            _check_tensor(told, part.scores(made_up.scores(_views(told, part, group))), (G, T), mask_GT)
        case "weighting":
            if isinstance(part, BatchWeighting):
                part = part.for_batch([torch.ones(group.num_tokens)])
            weights = part(made_up.scores(_views(told, part, group)))
            _check_is(told, weights, TokenWeights)
            for shown_GT in (weights.weights_GT, *weights.selections.values(), *weights.scores.values()):
                _check_tensor(told, shown_GT, (G, T), mask_GT, may_be_bool=shown_GT is not weights.weights_GT)


def _views(told: str, part: Any, group: RolloutGroup) -> tuple[View, ...]:
    views = tuple(part.required_views(group.prompt.media))
    for view in views:
        _check_is(f"{told}.required_views", view, View)
        if not _of_ktr(view):
            for medium, changed in zip(group.prompt.media, view.changes(group.prompt.media), strict=True):
                if changed:
                    _check_rows(f"{told}: {_name(view)}.rows", view, medium)
    return views


def _check_rows(told: str, view: View, medium: Medium) -> None:
    rows_NF = torch.ones(2 * medium.grid_thw[0], 4)
    changed = view.rows(rows_NF.clone(), medium, torch.Generator().manual_seed(0))
    if not isinstance(changed, Tensor) or changed.shape != rows_NF.shape or not changed.isfinite().all():
        given = tuple(changed.shape) if isinstance(changed, Tensor) else f"a {type(changed).__name__}"
        raise ConfigError(f"{told} must give finite rows of the shape that it got, {tuple(rows_NF.shape)}, not {given}")


def _check_is(told: str, result: Any, kind: type) -> None:
    if not isinstance(result, kind):
        raise ConfigError(f"{told} must give a {kind.__module__}.{kind.__name__}, and gives a {type(result).__name__}")


def _check_tensor(
    told: str, result: Any, shape: tuple[int, ...], mask_GT: Tensor | None, may_be_bool: bool = False
) -> None:
    """That it is of numbers, of a shape, and finite where the mask is True, or everywhere."""
    told = f"{told} must give a tensor of shape {shape} for a group of 2 completions, of 3 and 2 tokens"
    if not isinstance(result, Tensor):
        raise ConfigError(f"{told}, and gives a {type(result).__name__}")
    if tuple(result.shape) != shape:
        raise ConfigError(f"{told}, and gives one of shape {tuple(result.shape)}")
    if not result.is_floating_point() and not (may_be_bool and result.dtype == torch.bool):
        raise ConfigError(f"{told}, of floating point, and gives {result.dtype}")
    if not (result if mask_GT is None else result[mask_GT]).isfinite().all():
        raise ConfigError(f"{told}, and gives {result.tolist()}: it must be finite")


def _check_learns(told: str, result: Tensor) -> None:
    if not result.requires_grad:
        raise ConfigError(f"{told} gives a value without a gradient: nothing would be learned")


def _of_ktr(part: Any) -> bool:
    return str(getattr(getattr(part, "func", part), "__module__", type(part).__module__)).partition(".")[0] == "ktr"


def _name(part: Any) -> str:
    named = getattr(part, "func", part)
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"
