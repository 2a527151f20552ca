"""``python -m ktr.export runs/<run>`` writes the policy of a run as a Hugging Face folder, with a model card."""

import logging
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ktr.config.endings import Stopped, ending_of, stopped_by_signals


def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m ktr.export",
        description="Write a run's policy as a folder that transformers and vLLM load: weights with adapters merged "
        "in, tokenizer, processor with the run's pixels, generation config, model card.",
    )
    parser.add_argument("run", type=Path, help="a run's folder, such as runs/<run>")
    parser.add_argument("--output", type=Path, help="where to; <run>/export, if not given")
    parser.add_argument(
        "--checkpoint",
        help="last, best (of those that were kept, on held-out questions), a number of updates, or a folder; the run's "
        "final policy, if not given",
    )
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--results", type=Path, nargs="+", default=[], help="folders of evaluations, for the card")
    parser.add_argument(
        "--model", type=Path, help="where the model that the run started from lies, if elsewhere by now"
    )
    arguments = parser.parse_args(argv)
    output = arguments.output or arguments.run / "export"
    logging.basicConfig(format="%(message)s")
    logging.getLogger("ktr").setLevel(logging.INFO)
    try:
        with stopped_by_signals():
            from ktr.console.quiet import quiet_libraries  # not above: it loads torch
            from ktr.export.exported_folder import export

            quiet_libraries()
            written = export(
                arguments.run,
                output,
                arguments.checkpoint,
                arguments.dtype,
                arguments.results,
                arguments.model,
            )
    except Stopped as stop:
        sys.stderr.write(f"ktr.export: {signal.Signals(stop.number).name}: ended; {output} is as it was\n")
        return 128 + stop.number
    except Exception as error:
        if (ending := ending_of(error, None)) is None:
            raise
        sys.stderr.write(f"ktr.export: {ending[1]}\n")
        return 2
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
