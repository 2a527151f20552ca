"""On a CPU what tests/gpu asks of a GPU: each attention is a softmax over what full rows would see."""

import pytest
import torch

from ktr.policy.prefix_attention import prefix_sdpa
from tests import attention_parity

CPU = torch.device("cpu")
pytestmark = pytest.mark.parametrize("dtype", attention_parity.TOLERANCES, ids=str)


def test_a_packed_row_equals_full_rows(dtype: torch.dtype):
    attention_parity.assert_packed_equals_full_rows(prefix_sdpa, CPU, dtype)


def test_a_token_attends_to_its_cache(dtype: torch.dtype):
    attention_parity.assert_tokens_attend_behind_shared_prompts(prefix_sdpa, CPU, dtype)


def test_windows_of_the_tower_equal_a_mask(dtype: torch.dtype):
    attention_parity.assert_windows_equal_a_mask(CPU, dtype)
