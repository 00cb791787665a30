"""The engines: what is asked and answered, which model runs where, and how it is run. Imports nothing above it."""
