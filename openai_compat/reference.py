"""The tables of fields as a page of Markdown: `references/http.md` holds it."""

import json

from openai_compat.audio.table import ALIGNMENTS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS, VOICES
from openai_compat.chat.table import CHAT, COMPLETIONS, Table
from openai_compat.names import OPENAI_LISTENS, OPENAI_SPEAKS

ROUTES = (
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", COMPLETIONS),
    ("/v1/audio/transcriptions", TRANSCRIPTIONS),
    ("/v1/audio/translations", TRANSLATIONS),
    ("/v1/audio/alignments", ALIGNMENTS),
    ("/v1/audio/speech", SPEECH),
    ("/v1/audio/voices", VOICES),
)


def reference() -> str:
    """Every route with its fields."""
    lines = [
        "# Fields of requests",
        "",
        '`null`, and an empty text in a form, mean "not given". Names in no table are told back in `X-Ignored-Fields`.',
    ]
    for route, table in ROUTES:
        lines += ["", f"## `POST {route}`", "", *_fields(table)]
    lines += [
        "",
        "## OpenAI's names of models",
        "",
        "They mean the port's default, unless a model or an alias is called so. For transcriptions and translations: "
        f"{_names(OPENAI_LISTENS)}. For speech: {_names(OPENAI_SPEAKS)}.",
    ]
    return "\n".join(lines) + "\n"


def _fields(table: Table) -> list[str]:
    lines = ["| field | what it does |", "| --- | --- |"]
    lines += [f"| `{name}` | {what} |" for name, what in sorted(table.acts.items())]
    if table.refused:
        refused = [
            f"`{name}`" + (f" (but for {_listed(neutral)})" if neutral else "")
            for name, neutral in table.refused.items()
        ]
        lines += ["", f"Refused by name, because it would change the answer and isn't built: {', '.join(refused)}."]
    if table.without_effect:
        without = [f"`{name}` ({reason})" for name, reason in table.without_effect.items()]
        lines += ["", f"Accepted without effect: {', '.join(without)}."]
    return lines


def _names(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(f"`{json.dumps(value)}`" for value in values)
