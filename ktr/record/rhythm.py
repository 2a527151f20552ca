"""Every n updates, where a batch may be worth several."""


class Rhythm:
    """Due at the first batch end at or after each multiple of ``every_n_steps`` updates.

    Several updates of one batch (``updates_per_rollout``) may pass a multiple without stopping at it.
    """

    def __init__(self, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: give 1 or more")
        self.every_n_steps = every_n_steps
        self._last = 0

    def start_batch(self, step: int) -> None:
        """To be called with the number of updates before a batch."""
        self._last = step

    def is_due(self, step: int) -> bool:
        """Whether a batch that ends after ``step`` updates has reached a multiple."""
        return step // self.every_n_steps > self._last // self.every_n_steps
