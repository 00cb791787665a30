"""The runner process: one model, on MLX."""
