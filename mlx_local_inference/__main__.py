"""The command `mlx-local`: a command parses its arguments, calls, and prints."""

import sys

from mlx_local_inference.commands import run


def main() -> int:
    """The exit status: 0 well, 1 failed, 2 called wrongly, 130 interrupted."""
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
