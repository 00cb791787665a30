"""What the tools need to know of the configuration."""

from pathlib import Path

import msgspec

from mcp_server.access import Access, Anything


class McpOptions(msgspec.Struct, frozen=True):
    """Models for calls that name none, and the folder for results that no path is given for; it exists.

    `tenant` is whose call it is, by its API key; "" where there is none.
    """

    files: Path
    transcription_model: str = "qwen3-asr"
    speech_model: str = "qwen3-tts"
    imitation_model: str = "qwen3-tts-base"
    tenant: str = ""
    access: Access = Anything()
