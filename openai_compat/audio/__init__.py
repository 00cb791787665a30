"""Audio routes: transcriptions, translations, alignments, speech, voices."""
