"""Recordings → text, made of requests to the runtime."""
