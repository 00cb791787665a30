"""The batch loop of all that writes text, whatever its rows begin with, and what it is made of."""
