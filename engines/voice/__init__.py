"""Text to speech: what the server's process does around a model that speaks one sentence at a time, and its runner.

`model`, `codec`, `sampling` and `engine` run on a runner's main thread and import MLX; `prompt` and `tokens` run beside
it; all others are the server's and import nothing heavy.
"""
