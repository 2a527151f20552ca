"""The packages that nearly every test needs, loaded before the modules of ktr that need them.

Were a module of ktr the first to import one, jaxtyping's hook would have Python compile all of it anew: six seconds.
"""

# ruff: noqa: F401

import lightning.pytorch
import peft
import scipy.stats
import torch
import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl
import transformers.models.qwen2_5_vl.processing_qwen2_5_vl
from transformers import PreTrainedConfig

torch.set_num_threads(1)
# A config writes itself out for a log line that no level shows, which is half of the time to load a policy this small.
PreTrainedConfig.__repr__ = object.__repr__
