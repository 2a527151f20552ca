"""``python -m ktr.export runs/<run>`` writes the policy of a run as a Hugging Face folder, with a model card."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ktr.config.endings import ending_of
from ktr.console.quiet import quiet_libraries
from ktr.errors import KtrError


def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m ktr.export",
        description="Write a run's policy as a folder that transformers and vLLM load: weights with adapters merged "
        "in, tokenizer, processor with the run's pixels, generation config, model card.",
    )
    parser.add_argument("run", type=Path, help="a run's folder, such as runs/<run>")
    parser.add_argument("--output", type=Path, help="where to; <run>/export, if not given")
    parser.add_argument("--checkpoint", help="last, or a number of updates; the run's final policy, if not given")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="folders of evaluations, for the card")
    arguments = parser.parse_args(argv)
    quiet_libraries()
    from ktr.export.exported_folder import export  # not above: it loads torch

    try:
        output = arguments.output or arguments.run / "export"
        written = export(arguments.run, output, arguments.checkpoint, arguments.dtype, arguments.results)
    except (KtrError, OSError) as error:
        if (ending := ending_of(error, None)) is None:
            raise
        sys.stderr.write(f"ktr.export: {ending[1]}\n")
        return 2
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
