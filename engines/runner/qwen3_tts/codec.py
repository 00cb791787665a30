"""The 12 Hz codec: codes to sound as they come, for several utterances in turn, and sound to codes.

The library keeps the state of a stream on its modules. Here each utterance owns its state, which is put in place for
the time of a step and taken away after it; so any number of streams take turns, and one that is dropped leaves nothing.
"""

from typing import Any

import mlx.core as mx

CONTEXT = 25  # frames before the first that are decoded for their after-effect

State = list[Any]


class Codec:
    """Over mlx-audio's speech tokenizer, `module`, loaded."""

    def __init__(self, module: Any) -> None:
        self._decoder = module.decoder
        self._encoder = module.encoder_model
        # Every place where a part of the decoder keeps what it needs of the past.
        self._places = [
            (part, name)
            for _, part in self._decoder.named_modules()
            for name in ("_buffer", "_overflow", "_transformer_cache")
            if name in vars(part)
        ]

    @property
    def encodes(self) -> bool:
        return self._encoder is not None

    def new_stream(self) -> State:
        return [None] * len(self._places)

    def decode(self, stream: State, codes: mx.array) -> mx.array:
        """Samples [frames * 1920], float32, of codes [groups, frames] that follow the stream's last."""
        self._put(stream)
        try:
            sound: mx.array = self._decoder.streaming_step(codes[None])[0, 0].astype(mx.float32)
            stream[:] = [getattr(part, name) for part, name in self._places]
            mx.eval(sound, [kept for kept in stream if isinstance(kept, mx.array)])
        finally:
            self._put(self.new_stream())
        return sound

    def follow(self, stream: State, codes: mx.array) -> None:
        """Begin a new stream as if it went on after these codes [groups, frames], of the voice that it imitates."""
        self.decode(stream, codes[:, -CONTEXT:])

    def encode(self, samples: mx.array) -> mx.array:
        """Codes [groups, frames] of samples [n]."""
        try:
            codes: mx.array = self._encoder.encode(samples[None, None])[0]
            mx.eval(codes)
        finally:
            for cache in self._encoder.encoder_cache:
                cache.keys = cache.values = None
                cache.offset = 0
        return codes

    def _put(self, state: State) -> None:
        for (part, name), kept in zip(self._places, state, strict=True):
            setattr(part, name, kept)
