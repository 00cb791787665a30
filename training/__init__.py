"""How the demo's chat checkpoints were made: a corpus written by code, training from nothing, figures."""
