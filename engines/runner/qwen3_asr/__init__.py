"""Qwen3-ASR: sound in, text out, on the batch loop that chat has."""
