"""The tokens that end an answer, also of a checkpoint whose configurations name none."""

from pathlib import Path

from tokenizers import Tokenizer

from engines.models import tokenizer as tokenizers
from engines.models.config import eos_ids
from engines.runner.chat import template_files
from engines.runner.chat.template import Templates
from engines.types.errors import InvalidRequest

_WORD = "answer"


def end_ids(folder: Path) -> frozenset[int]:
    """Those that the configurations name; else the tokenizer's `eos_token`, and what the template ends a turn with."""
    return eos_ids(folder) or found(tokenizers.read(folder), template_files.read(folder), template_files.eos(folder))


def found(tokenizer: Tokenizer, templates: Templates, eos_token: str) -> frozenset[int]:
    ids = {tokenizer.token_to_id(eos_token) if eos_token else None, _behind_an_answer(tokenizer, templates)}
    return frozenset(id for id in ids if id is not None)


def _behind_an_answer(tokenizer: Tokenizer, templates: Templates) -> int | None:
    """The added token that stands directly behind an answer."""
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _WORD}]
    try:
        text = templates.chosen(with_tools=False).render(turns, {"add_generation_prompt": False})
    except InvalidRequest:
        return None
    before, _, behind = text.rpartition(_WORD)
    ids = tokenizer.encode(behind.lstrip(), add_special_tokens=False).ids if before else []
    return ids[0] if ids and ids[0] in tokenizer.get_added_tokens_decoder() else None
