"""Tools, calls and results as plain text, for models whose chat template knows no tools (Gemma 3).

The calls look as Qwen3 writes them, so one parser reads both. The block belongs at the end of the system text.
"""

import json
from collections.abc import Mapping, Sequence

HEAD = "# Tools\n\nYou may call one or more of these functions. Their signatures:\n<tools>\n"
TAIL = (
    "\n</tools>\n\nTo call a function, answer with its name and arguments as JSON, each call inside its own tags:\n"
    '<tool_call>\n{"name": <name>, "arguments": <arguments>}\n</tool_call>'
)


def tools_block(tools: Sequence[Mapping[str, object]]) -> str:
    """What a model is told about its tools; each is a whole `{"type": "function", "function": {…}}`."""
    return HEAD + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools) + TAIL


def call_text(name: str, arguments: object) -> str:
    """A call as the model writes it. Arguments that are a string are taken as JSON already."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {written}}}\n</tool_call>'


def response_text(content: str) -> str:
    """A tool's result as it stands in a user turn."""
    return f"<tool_response>\n{content}\n</tool_response>"
