"""Which tokens a video is responsible for: counterfactual views, signals on tokens, and their selection."""
