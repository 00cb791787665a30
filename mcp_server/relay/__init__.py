"""The relay: an agent's stdio, connected to the service."""
