"""Small checkpoints with genuine architectures, their weights random or trained, for tests and for a first try."""
