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

torch.set_num_threads(1)
