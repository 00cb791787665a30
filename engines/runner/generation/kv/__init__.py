"""KV caches: rows, stored blocks, the prefix cache, their memory."""
