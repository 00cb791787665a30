"""The reference of the tools is what they say of themselves."""

from pathlib import Path

from mcp_server.reference import reference
from mcp_server.tools.registry import listed

ROOT = Path(__file__).parent.parent.parent


def test_the_page_of_tools_is_current() -> None:
    assert (ROOT / "references" / "mcp.md").read_text(encoding="utf-8").endswith(reference())


def test_every_argument_of_every_tool_has_a_row() -> None:
    page = reference()
    for tool in listed():
        assert f"\n## `{tool.name}`\n" in page
        for name, one in tool.input_schema["properties"].items():
            assert f"| `{name}` | {one['type']}" in page


def test_the_skill_names_every_tool_that_there_is_and_no_other() -> None:
    skill = (ROOT / "SKILL.md").read_text(encoding="utf-8")
    assert skill.startswith("---\nname: mlx-local-inference\ndescription: ")
    assert [line.split("`")[1] for line in skill.splitlines() if line.startswith("- **`")] == [
        tool.name for tool in listed()
    ]
