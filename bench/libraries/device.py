"""What MLX computes on, for the processes that have it."""

import mlx.core as mx

from bench.libraries.jobs import Device


def device() -> Device:
    return Device({"device": str(mx.default_device()), **mx.device_info()})
