"""The server's side of requests, without MLX: admission, the pool of models, their runners."""
