"""Reading and writing sound."""
