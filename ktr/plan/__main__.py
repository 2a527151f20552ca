"""``python -m ktr.plan <overrides of ktr.train> card=h100`` says whether a run fits and how long it takes."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from ktr.config.command_line import check_command_line
from ktr.config.endings import ending_of
from ktr.errors import KtrError
from ktr.plan.options import read_options
from ktr.plan.plan import Plan, as_object, make_plan
from ktr.plan.text import plan_lines, plan_text

USAGE = """\
python -m ktr.plan +experiment=vet_64f trainer.devices=8 card=h100

What python -m ktr.train takes, and beside it
  card=h100              h200, a100_80, a100_40, l40s, rtx4090
  share=0.4              of the card's peak operations that a pass reaches
  bandwidth_share=0.6    of its memory's peak
  completion_tokens=384  mean length of a completion (half of sampling.max_tokens, if not given)
  text_tokens=300        tokens of a prompt that are not visual
  output=plan.json       write the plan there; nothing is written else
  --json                 print it as JSON
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 where what is given cannot be planned; a run that doesn't fit is told, and is no error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return 0
    as_json = "--json" in arguments
    try:
        options, overrides = read_options([argument for argument in arguments if argument != "--json"])
        # As if they were to be printed: what a run needs (weights, data, packages) is not asked for.
        jobs = check_command_line("train", [*overrides, "--cfg", "job"])
        plans = [make_plan(cast(dict[str, Any], OmegaConf.to_container(job, resolve=True)), options) for job in jobs]
        objects = json.dumps([as_object(plan) for plan in plans] if len(plans) > 1 else as_object(plans[0]), indent=2)
        if options.output is not None:
            Path(options.output).write_text(objects + "\n", encoding="utf-8")
    except (KtrError, OSError) as error:
        if (ending := ending_of(error, None)) is None:
            raise
        sys.stderr.write(f"ktr.plan: {ending[1]}\n")
        return 2
    sys.stdout.write(f"{objects if as_json else _text(plans)}\n")
    return 0


def _text(plans: Sequence[Plan]) -> str:
    return plan_text(plans[0]) if len(plans) == 1 else plan_lines(plans)


if __name__ == "__main__":
    raise SystemExit(main())
