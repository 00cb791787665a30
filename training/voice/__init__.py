"""How the demo's Qwen3-TTS checkpoint was made: words by espeak-ng, a codec for them, a talker, figures."""
