"""The languages that one of Qwen's checkpoints lists, by the codes that requests have."""

from collections.abc import Sequence

from engines.text import languages
from engines.types.errors import InvalidRequest


class SupportedLanguages:
    """`names` are the checkpoint's own. A checkpoint that lists none is asked for any."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {name.casefold(): name for name in names}

    def name(self, code: str) -> str:
        """The checkpoint's name for a language; "" for "". Raises `InvalidRequest` with the codes that it knows."""
        name = languages.name_for_qwen(code)
        if name and not self.listed(code):
            codes = sorted(filter(None, map(languages.code_of, self._names.values())))
            message = f"This model doesn't know {name} ({code}). It knows: {', '.join(codes)}."
            raise InvalidRequest(message, param="language")
        return self.listed(code)

    def listed(self, code: str) -> str:
        """As `name`, but "" for what it doesn't know."""
        name = languages.name_for_qwen(code)
        return self._names.get(name.casefold(), "") if self._names else name
