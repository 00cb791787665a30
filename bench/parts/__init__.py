"""One module a part; each puts its figures into the session's."""
