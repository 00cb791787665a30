"""Processes in which mlx-lm and mlx-audio run without a server."""
