"""``ktr.rollout.vllm.serve`` of LLaVA-OneVision, known by its class.

Else vLLM inspects it in a bare process, where torchvision cannot be imported beside a CPU-only torch
(see ``ktr.policy.torchvision_ops``). vLLM spawns its engine as processes that import this module again.
"""

import sys

from ktr.rollout.vllm import serve  # isort: skip  (before vLLM)
from vllm.model_executor.models import ModelRegistry
from vllm.model_executor.models.llava_onevision import LlavaOnevisionForConditionalGeneration

ModelRegistry.register_model("LlavaOnevisionForConditionalGeneration", LlavaOnevisionForConditionalGeneration)

if __name__ == "__main__":
    serve.main(sys.argv[1:])
