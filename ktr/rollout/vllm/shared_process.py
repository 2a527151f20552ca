"""What an engine in the trainer's own process must not disturb, and how it is woken where it hangs."""

import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keeps apart what vLLM and the trainer share in one process.

    vLLM seeds the global generators and sets the number of threads; the trainer's stay as they are. Lightning evaluates
    in inference mode; a tensor that vLLM made in it could not be written by a later push.
    """
    threads, python_state, numpy_state = torch.get_num_threads(), random.getstate(), np.random.get_state()
    with torch.random.fork_rng(), torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries on each other's deprecated names
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            torch.set_num_threads(threads)


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """TimeoutError from within whatever Python code hangs; only the main thread can be woken like this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signum: int, frame: Any) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
