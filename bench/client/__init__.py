"""The HTTP clients: raw bytes with the moment they came."""
