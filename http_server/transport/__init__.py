"""Connections below the routes: accepting, parsing, limits of size and time."""
