"""How far what was written down is from what was said."""

from training.speech import phrases


def distance(wanted: list[str], got: list[str]) -> int:
    """The fewest words to leave out, put in or exchange."""
    row = list(range(len(got) + 1))
    for place, word in enumerate(wanted, start=1):
        corner, row[0] = row[0], place
        for column, other in enumerate(got, start=1):
            corner, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, corner + (word != other))
    return row[-1]


def words_of(text: str, language: str) -> list[str]:
    """Of English, words; of a script without blanks, characters."""
    return text.split() if phrases.NAMED.get(language, phrases.ENGLISH).blank else list(text.replace(" ", ""))
