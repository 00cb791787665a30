"""Generating text: prefill, decode, the batch of sequences."""
