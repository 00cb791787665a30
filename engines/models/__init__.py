"""What is on disk: which checkpoints there are, and what each holds."""
