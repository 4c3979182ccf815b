"""Read IDX, the file format of MNIST and Fashion-MNIST."""

import gzip

import numpy as np


def read_idx(path):
    """Return the bytes of a gzipped IDX file as an array of its shape.

    Layout: 0, 0, type (8: unsigned byte), rank, then rank sizes of 4 bytes,
    highest byte first, then the elements.
    """
    raw = gzip.open(path).read()
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not IDX with unsigned bytes, begins with {raw[:4].hex()}")
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
