"""Import this before MLX. On Linux it loads OpenBLAS where it is found: MLX's own is 20 times slower in float32."""

import ctypes
import glob
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for _library in glob.glob("/usr/lib/*/openblas-pthread/libopenblasp*.so")[:1]:
    ctypes.CDLL(_library, mode=ctypes.RTLD_GLOBAL)
