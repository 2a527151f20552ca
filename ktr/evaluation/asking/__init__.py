"""A benchmark is asked: of a policy through the engines that train it, or of a served model, one line an item."""
