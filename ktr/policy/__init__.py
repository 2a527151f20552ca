"""The policy and the reference: a Qwen2.5-VL folder, its inputs, its positions."""
