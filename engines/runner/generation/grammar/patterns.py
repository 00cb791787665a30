"""Regular expressions: what is wrong with one before it is compiled, and our own for some formats. Pure."""

import re

MAX_EXPANDED = 100_000  # characters of a regular expression, with its repetitions written out

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9]|-[a-zA-Z0-9]){0,20}"
# llguidance's own dates know no leap years, its times have leap seconds, and its hosts and texts no bounds.
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL}){{0,4}}",
}


def regex_fault(regex: str) -> str:
    """Why a regular expression is refused before it is compiled; empty if it isn't."""
    if (len(regex) - len(regex.rstrip("\\"))) % 2:
        return "the regular expression ends in a lone backslash"
    return "it is too complex" if _expanded(regex) > MAX_EXPANDED else ""


def pattern_fault(pattern: str) -> str:
    """Why a schema's pattern is refused: regular expressions of JavaScript, Python and Rust must mean it alike."""
    if fault := regex_fault(pattern):
        return fault
    if re.search(r"\[(?:[^\]\\]|\\.)*?(?:\[|&&|--|~~)", pattern):
        return "sets of characters can't be nested, joined or subtracted; write \\[ for a bracket"
    known_to_python = re.sub(r"\(\?<(?=\w)", "(?P<", re.sub(r"\\[pP]\{[^}]*\}", r"\\w", pattern))
    try:
        re.compile(known_to_python)
    except (re.error, RecursionError, OverflowError) as error:
        return f"the pattern isn't a regular expression ({error})"
    return ""


def _expanded(regex: str) -> int:
    """How long a regular expression is, about, with its repetitions written out."""
    totals, last = [0], 0
    for match in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]|\{([0-9]+)(?:,([0-9]*))?\}|.", regex, re.DOTALL):
        if match[0] == "(":
            totals.append(0)
        elif match[0] == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        elif match[1]:
            times = max(int(match[1]), int(match[2] or 0), 1)
            totals[-1] += last * (times - 1)
            last *= times
        elif match[0] not in "+*?|":
            last = 1
            totals[-1] += 1
    return sum(totals)
