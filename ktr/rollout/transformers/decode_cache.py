"""A key-value cache of fixed room, written in place, whose rows can be repeated and dropped."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class DecodeCache:
    """Stands where the language model expects a cache; the model only ever calls ``update``.

    It is filled by the prompts, whose keys and values it holds as they come, and after ``repeat_rows`` token by token,
    in room that is taken then. Only what is written is copied or read. The model is given explicit masks and positions,
    so the cache needs to know nothing but where it is.
    """

    def __init__(self) -> None:
        self.length = 0  # tokens written by every layer
        self._layers: list[tuple[Tensor, Tensor]] = []

    def update(
        self, key: Float[Tensor, "N K S d"], value: Float[Tensor, "N K S d"], layer_idx: int
    ) -> tuple[Float[Tensor, "N K L d"], Float[Tensor, "N K L d"]]:
        """Append ``key`` and ``value`` behind what the layer holds, and return all of it.

        Under autocast a rotated key is fp32, and attention rounds it as the value is: it is kept rounded.
        """
        key = key.to(value.dtype)
        if layer_idx == len(self._layers):
            self._layers.append((key, value))
            return key, value
        keys, values = self._layers[layer_idx]
        stop = self.length + key.shape[2]
        keys[:, :, self.length : stop] = key
        values[:, :, self.length : stop] = value
        return keys[:, :, :stop], values[:, :, :stop]

    def advance(self, num_tokens: int) -> None:
        """Count the tokens that every layer has now written."""
        self.length += num_tokens

    def repeat_rows(self, repeats: int, capacity: int) -> None:
        """Give each row ``repeats`` copies with room for ``capacity`` tokens: the completions of a prefilled prompt."""
        for layer, (keys, values) in enumerate(self._layers):  # one at a time, so that one alone is held twice
            self._layers[layer] = _repeated(keys, repeats, capacity), _repeated(values, repeats, capacity)

    def keep_rows(self, rows: Int[Tensor, " M"]) -> None:
        """Make ``rows[i]`` the row i and drop all that are not named. Rows that stay where they are cost nothing."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for layer, (keys, values) in enumerate(self._layers):
            for held in (keys, values):
                written = held[:, :, : self.length]
                written[moved] = written[rows[moved]]
            self._layers[layer] = keys[: len(rows)], values[: len(rows)]


def closed_up(ended: Bool[Tensor, " N"]) -> Int[Tensor, " M"]:
    """The rows that go on, each at its place, but for the last of them: these stand where rows have ended."""
    num_live = int((~ended).sum())
    live = torch.arange(num_live, device=ended.device)
    live[ended[:num_live]] = num_live + torch.where(~ended[num_live:])[0]
    return live


def _repeated(held: Float[Tensor, "N K L d"], repeats: int, capacity: int) -> Float[Tensor, "M K C d"]:
    num_rows, num_heads, length, width = held.shape
    room = held.new_empty(num_rows, repeats, num_heads, capacity, width)
    room[:, :, :, :length] = held[:, None]
    return room.flatten(0, 1)
