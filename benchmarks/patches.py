"""The tower's first layer, as the convolution that model folders hold and as the matrix product that ktr makes of it.

    python -m benchmarks.patches [--rounds 7]

The patches of 1,152 visual tokens, into the embedded world's tower and into the 7B's, fp32, one thread. Figures are
medians of process time over rounds that take turns; backward includes forward, and needs no gradient of the pixels.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from ktr.policy.patch_projection import PatchProjection

NUM_PATCHES, KERNEL = 4 * 1152, (2, 14, 14)
WIDTHS = {"embedded": 64, "7B": 1280}


def seconds(layer: nn.Module, patches: torch.Tensor, backward: bool) -> float:
    start = time.process_time()
    with torch.set_grad_enabled(backward):
        out = layer(patches)
        if backward:
            out.backward(torch.ones_like(out))
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    patches = torch.randn(NUM_PATCHES, 3, *KERNEL)
    for name, width in WIDTHS.items():
        convolution = nn.Conv3d(3, width, KERNEL, KERNEL, bias=False)
        layers = {"convolution": convolution, "product": PatchProjection.of(convolution)}
        for backward in (False, True):
            found = {way: [] for way in layers}
            for _ in range(rounds):
                for way, layer in layers.items():
                    found[way].append(seconds(layer, patches, backward))
            of_convolution, of_product = (1000 * statistics.median(times) for times in found.values())
            print(
                f"{name}, {'backward' if backward else 'forward'}: convolution {of_convolution:.1f} ms, "
                f"product {of_product:.1f} ms, ratio {of_convolution / of_product:.1f}"
            )


if __name__ == "__main__":
    main()
