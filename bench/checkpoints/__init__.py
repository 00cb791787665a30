"""The checkpoints that are measured: random weights, made when they are wanted."""
