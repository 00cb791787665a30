"""Publishing files safely: whole or not at all, never over another file. Standard library alone, below everything."""
