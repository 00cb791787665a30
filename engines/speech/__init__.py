"""Speech to text: what the server's process does around a model that listens to one piece at a time."""
