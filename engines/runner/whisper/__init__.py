"""Whisper: windows of half a minute, decoded together, by the rules that its makers decode it with."""
