"""Now and then, a training example without its video."""

from collections.abc import Sequence

import torch

from ktr.attribution.views import Factual, View


class ViewDropout:
    """With probability ``rate`` an example is seen under one of ``views``, drawn evenly, else as it is.

    Without it counterfactual views are out of the policy's distribution, and what they do to log-probs says little
    about what a word depends on.
    """

    def __init__(self, views: Sequence[View], rate: float):
        if not views or not 0 <= rate <= 1:
            raise ValueError(f"view dropout needs at least one view and 0 ≤ rate ≤ 1, got {list(views)} and {rate}")
        self.views = tuple(views)
        self.rate = rate

    def draw(self, generator: torch.Generator) -> View:
        position = torch.rand((), generator=generator).item()
        return self.views[int(position / self.rate * len(self.views))] if position < self.rate else Factual()
