"""Sound and files: the media process and its client."""
