"""``vllm serve`` with what ktr adds to it: ``python -m ktr.rollout.vllm.serve MODEL --flags of vllm serve``.

vLLM spawns its engine as processes that import this module again, so that the declarations stand at its top level.
"""

import os
import sys

from ktr.policy import torchvision_ops

torchvision_ops.declare()  # before vLLM imports torchvision

from vllm.entrypoints.cli.serve import ServeSubcommand  # noqa: E402
from vllm.entrypoints.serve.middleware import authenticate  # noqa: E402
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

from ktr.rollout.vllm.setup import engine_environment  # noqa: E402
from ktr.rollout.vllm.transfer import register  # noqa: E402

os.environ.update(engine_environment())  # of a server that is started by hand too; vLLM reads it as it goes
register()
authenticate.GUARDED_PREFIX = ("/",)  # vLLM's own key leaves out the routes that change weights or call the worker


def main(arguments: list[str]) -> None:
    """What the ``vllm`` command does for ``serve``; the CPU build's package lacks the metadata that it asks for."""
    cli_env_setup()
    parser = FlexibleArgumentParser(prog="ktr.rollout.vllm.serve")
    serve = ServeSubcommand()
    serve.subparser_init(parser.add_subparsers(dest="subparser"))
    options = parser.parse_args(["serve", *arguments])
    serve.validate(options)
    serve.cmd(options)


if __name__ == "__main__":
    main(sys.argv[1:])
