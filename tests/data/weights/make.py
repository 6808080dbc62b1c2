#!/usr/bin/env python3
"""Makes the reference files in this folder with the safetensors package (0.8.0 when they were made).

check_weights.c builds the same tensors and expects cumega_weights_save to write the same bytes.
Byte i of a tensor is (31 * i + its first letter) mod 256, and mod 2 where the type is bool.
"""
import ctypes
import math
import pathlib

from safetensors import TensorSpec, serialize_file

BYTES = {"complex64": 8, "bfloat16": 2, "bool": 1}
FOLDER = pathlib.Path(__file__).parent


def save(file, tensors, metadata=None):
    specs, keep = {}, []
    for name, dtype, shape in tensors:
        size = math.prod(shape) * (BYTES.get(dtype) or int(dtype.lstrip("uintfloa")) // 8)
        first = name.encode()[0] if name else 0
        data = bytes((31 * i + first) % (2 if dtype == "bool" else 256) for i in range(size))
        memory = ctypes.create_string_buffer(data, max(size, 1))
        keep.append(memory)
        specs[name] = TensorSpec(
            dtype=dtype, shape=shape, data_ptr=ctypes.addressof(memory), data_len=size
        )
    serialize_file(specs, FOLDER / file, metadata)


save(
    "every_type.safetensors",
    [
        ("a.bool", "bool", [3]),
        ("b.uint8", "uint8", [2, 3]),
        ("c.int8", "int8", [5]),
        ("d.int16", "int16", [3, 1]),
        ("e.uint16", "uint16", [2]),
        ("f.float16", "float16", [7]),
        ("g.bfloat16", "bfloat16", [1, 2, 3]),
        ("h.int32", "int32", [2]),
        ("i.uint32", "uint32", [3]),
        ("j.float32", "float32", [2, 3]),
        ("k.float64", "float64", [3]),
        ("l.int64", "int64", [1]),
        ("m.uint64", "uint64", [2, 2]),
        ("n.complex64", "complex64", [2]),
    ],
    {"größe/\"\\": "ε = 1\t\u2028\x7f\x01 \U0001f600"},
)
save(
    "edges.safetensors",
    [
        ("", "float32", []),
        ("b", "float32", [2]),
        ("a", "float32", [0, 3]),
        ("ab", "float32", [1, 1, 1, 1, 1, 1, 1, 1]),
        ("Z", "float32", [3]),
        ("é\n\r\t\b\f\x1f/\"\\", "uint8", [5]),
        ("zero", "float64", [0]),
    ],
)
