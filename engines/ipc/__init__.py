"""Talking to child processes: framing, messages, starting, watching and ending them."""
