"""Text → speech, made of requests to the runtime."""
