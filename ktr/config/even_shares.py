"""What the ranks of a run share evenly: the questions of a step, and the servers that answer them.

Both are known before anything is loaded where the config says how many ranks there are.
"""

from collections.abc import Mapping
from typing import Any

from ktr.errors import ConfigError


def check_even_shares(config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a resolved config asks for ranks that cannot share evenly; not where they are unknown."""
    trainer, data, rollout = (config.get(key) for key in ("trainer", "data", "rollout"))
    ranks = num_ranks(trainer) if isinstance(trainer, Mapping) else None
    if ranks is None:
        return
    if isinstance(data, Mapping) and isinstance(questions := data.get("questions_per_step"), int):
        check_questions(questions, ranks)
    if isinstance(rollout, Mapping) and str(rollout.get("_target_")).endswith(".VLLMServerEngine"):
        key = "addresses" if rollout.get("addresses") else "num_servers"
        check_servers(len(rollout[key]) if key == "addresses" else rollout[key], ranks, key)


def check_questions(questions_per_step: int, ranks: int) -> None:
    """Raise ConfigError where a batch of questions is no multiple of the ranks."""
    if questions_per_step % ranks:
        raise ConfigError(
            f"data.questions_per_step={questions_per_step}: {ranks} ranks share a batch evenly; give a multiple of "
            f"{ranks}, or another number of ranks (trainer.devices, trainer.num_nodes)"
        )


def check_servers(total: int, ranks: int, key: str) -> None:
    """Raise ConfigError where the servers of ``rollout.<key>`` are no multiple of the ranks."""
    if total < 1 or total % ranks:
        raise ConfigError(f"rollout.{key}: {total} servers for {ranks} ranks; use a multiple of the ranks")


def num_ranks(trainer: Mapping[str, Any]) -> int | None:
    """Processes of all nodes, one a device; None where the machine decides."""
    devices = num_devices(trainer.get("devices"))
    return None if devices is None else devices * int(trainer.get("num_nodes") or 1)


def num_devices(devices: Any) -> int | None:
    """Devices that a value of ``trainer.devices`` asks for, as Lightning reads it: a number, a list, either as text.

    None where the machine decides.
    """
    if isinstance(devices, str):
        given = [part for part in devices.split(",") if part.strip()]
        devices = given if "," in devices else int(devices) if devices.strip().isdigit() else None
    count = len(devices) if isinstance(devices, list) else devices
    return count if isinstance(count, int) and count > 0 else None
