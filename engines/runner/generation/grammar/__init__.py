"""Constrained output: schemas and grammars, compiled to token masks."""
