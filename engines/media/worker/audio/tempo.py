"""Sound played faster or slower at the same pitch, and at another rate; samples in, samples out, in exact number."""

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame

from engines.media.worker.audio.graph import FilterChain, Samples

SLOWEST, FASTEST = 0.25, 4.0


def stages(speed: float) -> list[float]:
    """Factors from 0.5 to 2 that make up a speed, since the filter drops or repeats sound beyond that; [] for 1."""
    if speed == 1.0:
        return []
    number = 1 if 0.5 <= speed <= 2.0 else 2
    return [speed ** (1 / number)] * number


class Tempo:
    """`speed` 2 is twice as fast. What comes out is `1 / speed` as long as what went in, to the sample."""

    def __init__(self, rate_in: int, rate_out: int, speed: float) -> None:
        self._rate = rate_in
        self._factor = rate_out / rate_in / speed
        self._fed = 0
        self._given = 0
        factors = stages(speed)
        filters = [("atempo", {"tempo": f"{factor:.9f}"}) for factor in factors]
        needed = factors or rate_in != rate_out
        self._chain = FilterChain("flt", "mono", rate_in, rate_out, *filters) if needed else None

    def feed(self, samples: Samples) -> Iterator[Samples]:
        self._fed += len(samples)
        if self._chain is None:
            yield samples
        elif len(samples):
            frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
            frame.sample_rate = self._rate
            frame.pts = self._fed - len(samples)
            yield from self._counted(self._chain.feed(frame))

    def finish(self) -> Iterator[Samples]:
        """The rest. The filters' delay makes it a few milliseconds too long or short, which is mended."""
        if self._chain is None or not self._fed:
            return
        wanted = round(self._fed * self._factor)
        for samples in self._chain.feed(None):
            yield samples[: max(0, wanted - self._given)]
            self._given += len(samples)
        if self._given < wanted:
            yield np.zeros(wanted - self._given, np.float32)

    def _counted(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        for samples in blocks:
            self._given += len(samples)
            yield samples
