"""Pure functions over text: languages, scripts, characters, subtitles, what of a text is spoken."""
