"""Small checkpoints with genuine architectures and random weights, for tests and for a first try."""
