"""What is kept when a loss or a gradient is not finite: the last good weights and what produced it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ktr.errors import NonFiniteError
from ktr.policy.family import Policy
from ktr.ranks import rank_and_size, whole
from ktr.record.token_records import media_entries
from ktr.types import Experience


def stop_on_non_finite(
    folder: Path,
    step: int,
    values: Mapping[str, Tensor],
    policy: Policy,
    experiences: Sequence[Experience],
) -> None:
    """Raise ``NonFiniteError`` where one of ``values`` is NaN or infinite, before it can reach the weights.

    ``folder`` then holds the policy as it was before the step (``policy/``) and the step's questions, completions,
    rewards and advantages (``step.json``). One host–device synchronisation a step.
    """
    finite = torch.stack([value.detach().float().reshape(()) for value in values.values()]).isfinite()
    if bool(finite.all()):
        return
    _keep(folder, step, values, policy, experiences)  # the values are those of all ranks, and so is this folder
    broken = ", ".join(name for name, good in zip(values, finite.tolist(), strict=True) if not good)
    raise NonFiniteError(
        f"step {step}: {broken} is NaN or infinite. The optimizer step was not taken; {folder} holds the last good "
        f"weights and the step's rollouts. Start the run again with name={folder.parent.name} and a lower optimizer.lr "
        "or optimizer.max_grad_norm: it goes on from its last checkpoint"
    )


def _keep(
    folder: Path, step: int, values: Mapping[str, Tensor], policy: Policy, experiences: Sequence[Experience]
) -> None:
    broken = [name for name, weight in policy.named_parameters() if not whole(weight).isfinite().all()]
    policy.save(folder / "policy")
    if rank_and_size()[0] != 0:
        return
    record = {
        "step": step,
        "values": {name: repr(value.item()) for name, value in values.items()},
        "non_finite_weights": broken,
        "groups": [
            {
                "question": experience.group.question.id,
                **media_entries(experience.group.question),
                "completions": [completion.text for completion in experience.group.completions],
                "rewards": experience.rewards_G.tolist(),
                "advantages": experience.advantages_G.tolist(),
            }
            for experience in experiences
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step.json").write_text(json.dumps(record, indent=1))
