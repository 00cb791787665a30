"""Qwen3-ForcedAligner: sound and its text in, the times of its words out."""
