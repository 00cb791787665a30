"""How the demo's Qwen3-ASR checkpoint was made: a corpus spoken by espeak-ng, training from nothing, figures."""
