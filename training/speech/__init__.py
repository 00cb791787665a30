"""How the demo's speech-to-text models are taught: a corpus spoken by espeak-ng, training from nothing, figures."""
