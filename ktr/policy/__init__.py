"""The policy and the reference: a Qwen2.5-VL folder, its inputs, its positions."""

from ktr.policy import torchvision_ops

# Before anything imports torchvision: transformers' video processor does.
torchvision_ops.declare()
