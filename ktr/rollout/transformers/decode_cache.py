"""A key-value cache of fixed room, written in place, whose rows can be repeated and dropped."""

from jaxtyping import Float, Int
from torch import Tensor


class DecodeCache:
    """Stands where the language model expects a cache; the model only ever calls ``update``.

    Room for ``capacity`` tokens is taken when a layer first writes. The model is given explicit masks and positions, so
    the cache needs to know nothing but where it is.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0  # tokens written by every layer
        self._layers: list[tuple[Tensor, Tensor]] = []

    def update(
        self, key: Float[Tensor, "N K S d"], value: Float[Tensor, "N K S d"], layer_idx: int
    ) -> tuple[Float[Tensor, "N K L d"], Float[Tensor, "N K L d"]]:
        """Append ``key`` and ``value`` behind what the layer holds, and return all of it."""
        if layer_idx == len(self._layers):
            room = (key.shape[0], key.shape[1], self.capacity, key.shape[3])
            self._layers.append((key.new_empty(room), value.new_empty(room)))
        keys, values = self._layers[layer_idx]
        stop = self.length + key.shape[2]
        keys[:, :, self.length : stop] = key
        values[:, :, self.length : stop] = value
        return keys[:, :, :stop], values[:, :, :stop]

    def advance(self, num_tokens: int) -> None:
        """Count the tokens that every layer has now written."""
        self.length += num_tokens

    def repeat_rows(self, repeats: int) -> None:
        """Give each row ``repeats`` copies: the completions of one prefilled prompt."""
        self._layers = [
            (keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0)) for keys, values in self._layers
        ]

    def keep_rows(self, rows: Int[Tensor, " M"]) -> None:
        """Drop all other rows."""
        self._layers = [(keys[rows], values[rows]) for keys, values in self._layers]
