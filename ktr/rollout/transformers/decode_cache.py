"""A key-value cache of prompts, each held once for all of its completions, and of the completions' own tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ktr.policy.decode_attention import SharedPrompts
from ktr.policy.packed_row import GroupSpan, PackedLayout

Layers = list[tuple[Tensor, Tensor]]  # keys and values of each


class DecodeCache:
    """Stands where the language model expects a cache; the model only ever calls ``update``.

    It is filled by one forward of the packed prompts, whose keys and values it holds as they come, and after
    ``open_rows`` token by token, in room that is taken then. Rows and prompts that are done with are dropped in place.
    ``attention`` is what attention needs beside keys and values, and ``mask`` keeps transformers from making one.
    """

    def __init__(self, layout: PackedLayout) -> None:
        self.attention: dict[str, PackedLayout | SharedPrompts] = {"layout": layout}
        self._spans = layout.spans
        self.mask: Bool[Tensor, "B 1 1 P"] = torch.ones(1, 1, 1, 1, dtype=torch.bool)
        self._of_prompts: Layers = []
        self._of_rows: Layers = []
        self._owners: list[int] = []  # the prompt of each row
        self._length = 0  # tokens of each row that every layer has written

    @property
    def predictors(self) -> list[int] | slice:
        """Which tokens of a forward predict: the last of each packed prompt, then that of each row."""
        return slice(None) if self._owners else [span.completions_start - 1 for span in self._spans]

    def update(
        self, key: Float[Tensor, "N K S d"], value: Float[Tensor, "N K S d"], layer_idx: int
    ) -> tuple[Float[Tensor, "N K L d"], Float[Tensor, "N K L d"]]:
        """Hold the prompts' ``key`` and ``value``; behind them append those of the rows and return all that these have.

        Under autocast a rotated key is fp32, and attention rounds it as the value is: it is kept rounded.
        """
        key = key.to(value.dtype)
        if not self._owners:
            self._of_prompts.append((key, value))
            return key, value
        keys, values = self._of_rows[layer_idx]
        stop = self._length + key.shape[2]
        keys[:, :, self._length : stop] = key
        values[:, :, self._length : stop] = value
        return keys[:, :, :stop], values[:, :, :stop]

    def advance(self) -> None:
        """Count the token that every layer has now written of each row."""
        self._length += 1

    def open_rows(self, num_completions: int, capacity: int) -> None:
        """Take room for ``capacity`` tokens of each completion of each prompt; row n is of prompt n // G."""
        self._owners = [prompt for prompt in range(len(self._spans)) for _ in range(num_completions)]
        for layer, (keys, values) in enumerate(self._of_prompts):  # one at a time, so that one alone is held twice
            self._of_prompts[layer] = _apart(keys, self._spans), _apart(values, self._spans)
            room = len(self._owners), keys.shape[1], capacity, keys.shape[3]
            self._of_rows.append((keys.new_empty(room), values.new_empty(room)))
        lengths = torch.tensor([span.prompt_length for span in self._spans])
        visible_BP = torch.arange(int(lengths.max())) < lengths[:, None]
        self._share(visible_BP[:, None, None].to(self._of_prompts[0][0].device))

    def keep_rows(self, rows: Int[Tensor, " M"]) -> None:
        """Make ``rows[i]`` the row i and drop all that are not named. Rows that stay where they are cost nothing."""
        _keep(self._of_rows, rows, self._length)
        owners = [self._owners[row] for row in rows.tolist()]
        ended = torch.ones(len(self.mask), dtype=torch.bool)
        ended[owners] = False
        prompts = closed_up(ended)
        _keep(self._of_prompts, prompts.to(rows.device), None)
        place = {prompt: number for number, prompt in enumerate(prompts.tolist())}
        self._owners = [place[owner] for owner in owners]
        self._share(self.mask[prompts.to(rows.device)])

    def _share(self, visible_B11P: Bool[Tensor, "B 1 1 P"]) -> None:
        """Say which rows stand behind which prompt, and what of it is no padding."""
        rows: list[list[int]] = [[] for _ in visible_B11P]
        places: list[list[int]] = [[], []]
        for row, owner in enumerate(self._owners):
            for of_row, number in zip(places, (owner, len(rows[owner])), strict=True):
                of_row.append(number)
            rows[owner].append(row)
        most = max(map(len, rows))
        rows_BG, places_2N = torch.tensor([own + own[:1] * (most - len(own)) for own in rows]), torch.tensor(places)
        device = visible_B11P.device
        self.attention = {
            "prompts": SharedPrompts(self._of_prompts, visible_B11P, rows_BG.to(device), places_2N.to(device))
        }
        self.mask = visible_B11P


def closed_up(ended: Bool[Tensor, " N"]) -> Int[Tensor, " M"]:
    """The rows that go on, each at its place, but for the last of them: these stand where rows have ended."""
    num_live = int((~ended).sum())
    live = torch.arange(num_live, device=ended.device)
    live[ended[:num_live]] = num_live + torch.where(~ended[num_live:])[0]
    return live


def _apart(packed: Float[Tensor, "1 K L d"], spans: Sequence[GroupSpan]) -> Float[Tensor, "B K P d"]:
    """Each prompt of a packed row on its own, and zeros behind it."""
    prompts = packed[0].transpose(0, 1).split([span.prompt_length for span in spans])
    return pad_sequence(list(prompts), batch_first=True).transpose(1, 2).contiguous()


def _keep(layers: Layers, kept: Int[Tensor, " M"], length: int | None) -> None:
    """Make ``kept[i]`` the i-th of each layer, as far as it is written."""
    moved = (kept != torch.arange(len(kept), device=kept.device)).nonzero()[:, 0]
    for layer, pair in enumerate(layers):
        for held in pair:
            written = held[:, :, :length]
            written[moved] = written[kept[moved]]
        layers[layer] = pair[0][: len(kept)], pair[1][: len(kept)]
