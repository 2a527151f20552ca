"""Log-probs and entropies of rollout groups under views of their prompt: the video once, the prompt once."""
