"""The vocabulary: requests, results, errors, and how they are read from JSON."""
