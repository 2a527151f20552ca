"""What every test stands on: shapes checked at run time, no network, one thread, fixed seeds, a cache of its own."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", TOKENIZERS_PARALLELISM="false")
os.environ["WANDB_X_DISABLE_STATS"] = "true"  # W&B's process asks the machine nothing, and starts no other

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  (the hook finds it by name)

install_import_hook("ktr", "tests.typecheck.typechecker")  # before any module of ktr is imported

import gc
import logging
import random

import pytest

import ktr  # noqa: F401  (before torchvision is imported, which it makes possible beside a torch without CUDA)


def pytest_configure(config: pytest.Config) -> None:
    """Load the heavy packages where tests run; the process that only hands tests to workers does without."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        import tests.loaded  # noqa: F401


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put a test's group into its id, by which xdist sends it: xdist 3.8 does so where pytest 9.1 no longer looks."""
    if not config.getoption("loadgroup", False):
        return
    for item in items:
        group = item.get_closest_marker("xdist_group")
        if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
            item._id = type(item._id).parse(f"{item.nodeid}@{group.args[0]}")  # pyright: ignore


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that is loaded, which no test can make garbage of."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def ktr_folders(tmp_path_factory: pytest.TempPathFactory):
    """An empty $KTR_CACHE and $KTR_RUNS for the session, so that no test reads or fills the user's own."""
    folder = tmp_path_factory.mktemp("ktr_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KTR_CACHE", str(folder))
        patch.setenv("KTR_RUNS", str(tmp_path_factory.mktemp("ktr_runs")))
        yield folder


@pytest.fixture(autouse=True)
def same_state():
    """Each test starts from the same state of every global generator, and hears what is logged, whatever ran before."""
    import numpy as np
    import torch

    logging.disable(logging.NOTSET)  # a benchmark that ran in this process silences it
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    turns = scheduling()
    yield
    assert scheduling() == turns, "the process takes its turns otherwise now: real-time, it may leave others none"


def scheduling() -> int | None:
    """By which policy the system gives this thread its turns, where it tells."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
