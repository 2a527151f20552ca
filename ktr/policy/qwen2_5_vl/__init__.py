"""The Qwen2.5-VL family: its model as a policy, its inputs, its positions."""
