"""Text routes: chat completions, completions, tokens."""
