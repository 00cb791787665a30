"""The chat engine."""
