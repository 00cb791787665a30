"""What a client says beforehand about a recording, as the text that a model takes as context."""

from collections.abc import Sequence

MOST = 2_000  # characters


def context(prompt: str, hotwords: Sequence[str], most: int = MOST) -> tuple[str, tuple[str, ...]]:
    """At most `most` characters, hotwords first to stay, and sentences about what had to be left out."""
    wanted = [word for word in (" ".join(word.split()) for word in hotwords) if word]
    words: list[str] = []
    room = most
    for word in wanted:
        if len(word) + 2 > room:
            break
        words.append(word)
        room -= len(word) + 2
    said = []
    if len(words) < len(wanted):
        said.append(
            f"Only the first {len(words)} of {len(wanted)} hotwords reached the model, which takes {most} characters "
            "of context."
        )
    prompt = prompt.strip()
    kept = prompt if len(prompt) <= room else _cut(prompt, room)
    if kept != prompt:
        said.append(
            f"Only the first {len(kept)} of the prompt's {len(prompt)} characters reached the model, which takes "
            f"{most} characters of context, hotwords included."
        )
    return "\n".join(filter(None, [kept, ", ".join(words)])), tuple(said)


def _cut(text: str, most: int) -> str:
    """The beginning of it; up to a space, if there is one near the end."""
    end = text.rfind(" ", most - 40, most) if most > 40 else -1
    return text[: end if end > 0 else max(most, 0)].rstrip()
