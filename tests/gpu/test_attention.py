"""Every backend's packed attention is that of full rows, forward and backward, to its dtype's rounding."""

from importlib.util import find_spec

import pytest
import torch

from ktr.policy.prefix_attention import prefix_flash, prefix_sdpa
from tests import attention_parity

DTYPES = pytest.mark.parametrize("dtype", attention_parity.TOLERANCES, ids=str)
NO_FLASH = pytest.mark.skipif(find_spec("flash_attn") is None, reason="the flash-attn extra is not installed")


@DTYPES
def test_sdpa(device: torch.device, dtype: torch.dtype):
    attention_parity.assert_packed_equals_full_rows(prefix_sdpa, device, dtype)


@NO_FLASH
def test_flash_attention(device: torch.device):
    attention_parity.assert_packed_equals_full_rows(prefix_flash, device, torch.bfloat16)


@DTYPES
@pytest.mark.parametrize("attention", [prefix_sdpa, prefix_flash])
def test_a_token_attends_to_its_cache(device: torch.device, attention, dtype: torch.dtype):
    attention_parity.assert_tokens_attend_behind_shared_prompts(attention, device, dtype)


@DTYPES
def test_windows_of_the_tower(device: torch.device, dtype: torch.dtype):
    attention_parity.assert_windows_equal_a_mask(device, dtype)
