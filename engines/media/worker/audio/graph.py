"""A chain of the library's filters for sound, on the thread that uses it: frames in, samples of float32 out."""

from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Filter = tuple[str, dict[str, str]]


class FilterChain:
    """One channel comes out, at a rate. Frames must all be of the kind, layout and rate that are given."""

    def __init__(self, kind: str, layout: str, rate_in: int, rate_out: int, *between: Filter) -> None:
        self._graph = Graph()
        self._graph.threads = 1  # else each graph has as many as there are processors
        form = {"sample_fmt": kind, "channel_layout": layout, "sample_rate": str(rate_in), "time_base": f"1/{rate_in}"}
        filters: list[Filter] = [
            ("abuffer", form),
            *between,
            ("aformat", {"sample_fmts": "flt", "channel_layouts": "mono", "sample_rates": str(rate_out)}),
            ("abuffersink", {}),
        ]
        self._graph.link_nodes(*(self._graph.add(name, **options) for name, options in filters)).configure()

    def feed(self, frame: AudioFrame | None) -> Iterator[Samples]:
        """What comes out now; None for the frame is the end, after which nothing can be fed."""
        self._graph.push(frame)
        while True:
            try:
                made = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(made, AudioFrame)
            yield made.to_ndarray().reshape(-1).astype(np.float32, copy=False)
