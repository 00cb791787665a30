"""Character classes: scripts written without spaces, and marks that end sentences and clauses."""

import re

# Han, kana, fullwidth forms and CJK marks; Thai, Lao, Burmese, Khmer and Tibetan.
_SPACELESS = (
    r"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffdf"
    r"\U00020000-\U0003ffff"
)
SPACELESS = re.compile(rf"[{_SPACELESS}]")
WITHIN_WORDS = "'’-"
_THAI = r"(?=\w)[\u0e00-\u0e7f][\u0e31\u0e34-\u0e4e]*"  # with the vowels and tones that are written around it
_LETTER = rf"(?:(?![{_SPACELESS}])\w)"
UNIT = re.compile(rf"{_THAI}|(?=\w)[{_SPACELESS}]|{_LETTER}+(?:[{WITHIN_WORDS}]{_LETTER}+)*")
"""A word, or one character of a script without spaces. Marks and spaces are in no unit."""
ALONE = re.compile(rf"(?![\u0e00-\u0e7f])[{_SPACELESS}]")
"""A character that is a unit by itself, whatever follows."""
WORD_GOES_ON = re.compile(rf"(?:{_LETTER}|[{WITHIN_WORDS}])*")

WIDE_SENTENCE_MARKS = "。！？…｡．؟।॥"
WIDE_CLAUSE_MARKS = "，、；：،؛､"
"""Marks that always end a sentence or clause; the ASCII marks also occur in numbers and addresses."""

SENTENCE_MARKS = WIDE_SENTENCE_MARKS + "!?"
CLAUSE_MARKS = WIDE_CLAUSE_MARKS + ",;:"
CLOSING = "”’」』）)]】》〉\"'"
"""Closing quotes and brackets: after a mark, they belong to the sentence that it ends."""
