"""The command `mlx-local`: a command parses its arguments, calls, and prints."""

import sys


def main() -> int:
    """The exit status: 0 well, 1 failed, 2 called wrongly, 130 interrupted."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["mcp"]:
        # An agent starts one of these a session: it must cost nothing, so nothing else is imported.
        from mcp_server.relay.main import main as relay

        return relay(arguments[1:])
    from mlx_local_inference.commands import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
