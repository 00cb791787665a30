"""Conversations: messages and tools → a prompt; a reply's text → what it thinks, says and calls."""
