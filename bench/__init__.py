"""`make bench`: this server beside mlx-lm's own batch in process and the servers that ship with mlx-lm and mlx-vlm."""
