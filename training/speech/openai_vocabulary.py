"""Makes the vocabularies of OpenAI's Whisper that the wheel holds, from the rank files that OpenAI publishes.

    python -m training.speech.openai_vocabulary FOLDER TARGET

`FOLDER` has gpt2.tiktoken and multilingual.tiktoken (in the wheel of mlx-whisper: mlx_whisper/assets). A rank file
names every token of byte-level BPE in the order in which it was learned; what is kept of it is of which two earlier
tokens each was made, 16 bits each, behind the 256 single bytes, which are in GPT-2's order in both.
"""

import base64
import lzma
import struct
import sys
from pathlib import Path


def made_of(tokens: list[bytes]) -> list[tuple[int, int]]:
    """For each token behind the single bytes, the ranks of the two that it was merged from."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    pairs: list[tuple[int, int]] = []
    for rank, token in enumerate(tokens[256:], 256):
        parts = [token[place : place + 1] for place in range(len(token))]
        while len(parts) > 2:
            place = min(range(len(parts) - 1), key=lambda place: ranks.get(parts[place] + parts[place + 1], rank))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        left, right = (ranks[part] for part in parts)
        assert left < rank and right < rank
        pairs.append((left, right))
    return pairs


def tokens_of(file: Path) -> list[bytes]:
    lines = (line.rsplit(maxsplit=1) for line in file.read_bytes().splitlines() if line)
    ranks = {int(line[-1]): base64.b64decode(line[0]) if len(line) > 1 else b"" for line in lines}
    return [token for _, token in sorted(ranks.items()) if token]


def main(folder: Path, target: Path) -> None:
    for name in ("gpt2", "multilingual"):
        pairs = made_of(tokens_of(folder / f"{name}.tiktoken"))
        packed = struct.pack(f"<{2 * len(pairs)}H", *(rank for pair in pairs for rank in pair))
        (target / f"{name}.merges.xz").write_bytes(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
