"""The media process: decodes and encodes untrusted files."""
