"""MATLAB files, damaged under their checksums, and made to fill the memory."""

import zlib

import numpy as np
import scipy.io

from fuzzing.damage import damaged, odd_file


def mebibyte_of_zeros() -> bytes:
    """A mebibyte, deflated; repeated, it is so many of them."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)


ZEROS = mebibyte_of_zeros()


def cell_array(values):
    """As MATLAB has it."""
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


def mat_file(rng, path, arrays):
    """A MATLAB file, its elements inflated, damaged and deflated again; or one that claims more than it has."""
    compress = bool(rng.random() < 0.7)
    scipy.io.savemat(path, arrays, do_compression=compress)
    data = path.read_bytes()
    if rng.random() < 0.7 and compress:  # its checksum would find anything
        head, data, elements = data[:128], data[128:], []
        while len(data) >= 8:
            _, size = np.frombuffer(data[:8], np.uint32).tolist()
            elements.append(zlib.decompress(data[8 : 8 + size]))
            data = data[8 + size :]
        number = rng.integers(len(elements))
        element = elements[number] = damaged(rng, elements[number][:100]) + elements[number][100:]
        if rng.random() < 0.15:  # a bomb of gigabytes
            elements[number] = element[:48] + np.array([1, 2**31 - 100], np.uint32).tobytes()
        data = head
        for index, element in enumerate(elements):
            packer = zlib.compressobj()
            packed = packer.compress(element) + packer.flush(zlib.Z_FULL_FLUSH)
            packed = packed + ZEROS * 1024 if index == number and rng.random() < 0.2 else zlib.compress(element)
            data += np.array([15, len(packed)], np.uint32).tobytes() + packed
    elif rng.random() < 0.9:
        data = damaged(rng, data)
    path.write_bytes(data)
    if rng.random() < 0.05:
        odd_file(rng, path)
