"""MCP: what agents can ask for, and the transports on which they ask."""
