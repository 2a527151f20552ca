"""What a researcher brings: a signal, a reward and a ratio of their own."""
