"""``python -m ktr.dashboard entity/project`` makes the W&B workspaces of a project: of its runs, and of its sweeps."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path

from ktr.errors import ConfigError, KtrError


def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m ktr.dashboard",
        description="Make the W&B workspaces of a project: rewards, gradients, attribution, engine, throughput.",
    )
    parser.add_argument("place", metavar="entity/project")
    parser.add_argument("--output", type=Path, help="write what would be sent to this JSON file, and send nothing")
    arguments = parser.parse_args(argv)
    try:
        for text in _made(arguments.place, arguments.output):
            sys.stdout.write(f"{text}\n")
    except KtrError as error:
        sys.stderr.write(f"ktr.dashboard: {type(error).__name__}: {error}\n")
        return 2
    return 0


def _made(place: str, output: Path | None) -> Iterator[str]:
    from ktr.dashboard.workspace import workspaces, write_specifications

    if output is not None:
        yield str(write_specifications(place, output))
        return
    made = workspaces(place)
    import wandb

    if wandb.api.api_key is None:
        raise ConfigError(
            "there is no W&B key: run `wandb login`, or give --output file.json to see what would be sent"
        )
    try:
        for workspace in made.values():
            workspace.save()
            yield workspace.url
    except (wandb.Error, OSError, ValueError) as error:
        raise ConfigError(f"W&B does not take the workspace: {' '.join(str(error).split())}") from error


if __name__ == "__main__":
    raise SystemExit(main())
