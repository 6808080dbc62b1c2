#!/usr/bin/env python3
"""Reads and writes weight files with cumega and with the safetensors package, and compares.

Both must accept and refuse the same files, and give the same tensors and bytes.

    compare_safetensors.py LIBCUMEGA BAD_WEIGHTS

LIBCUMEGA is libcumega.so, BAD_WEIGHTS the program that writes the seeds. If the package is not
installed, exits with 77, which is "skipped" to CTest.
"""

import ctypes as c
import os
import random
import subprocess
import sys
import tempfile

try:
    from safetensors import deserialize
except ImportError:
    print("skipped: the safetensors package is not installed (pip install safetensors)")
    sys.exit(77)


class Device(c.Structure):
    _fields_ = [("type", c.c_int32), ("id", c.c_int32)]


class Dtype(c.Structure):
    _fields_ = [("code", c.c_uint8), ("bits", c.c_uint8), ("lanes", c.c_uint16)]


class Tensor(c.Structure):
    _fields_ = [
        ("data", c.c_void_p),
        ("device", Device),
        ("ndim", c.c_int32),
        ("dtype", Dtype),
        ("shape", c.POINTER(c.c_int64)),
        ("strides", c.c_void_p),
        ("offset", c.c_uint64),
    ]


class Entry(c.Structure):
    _fields_ = [
        ("name", c.c_char_p),
        ("dtype_name", c.c_char_p),
        ("dtype", Dtype),
        ("ndim", c.c_int32),
        ("shape", c.c_int64 * 8),
        ("bytes", c.c_int64),
    ]


class Named(c.Structure):
    _fields_ = [("name", c.c_char_p), ("tensor", c.POINTER(Tensor))]


lib = c.CDLL(sys.argv[1])
lib.cumega_weights_count.restype = c.c_int64
lib.cumega_weights_at.restype = c.POINTER(Entry)
lib.cumega_weights_at.argtypes = [c.c_void_p, c.c_int64]
lib.cumega_weights_count.argtypes = lib.cumega_weights_close.argtypes = [c.c_void_p]
lib.cumega_weights_read.argtypes = [c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p, c.c_int64]
lib.cumega_weights_open.argtypes = [c.c_void_p, c.c_char_p, c.c_void_p]
lib.cumega_weights_save.argtypes = [
    c.c_void_p,
    c.c_char_p,
    c.c_void_p,
    c.c_int64,
    c.c_void_p,
    c.c_int64,
]
lib.cumega_context_message.argtypes = [c.c_void_p]
lib.cumega_context_message.restype = c.c_char_p
context = c.c_void_p()
assert lib.cumega_context_create(None, c.byref(context)) == 0
folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "file").encode()


def ours(data):
    """{name: (type, shape or None for more than 8 dimensions, bytes)}, or a refusal's message."""
    with open(path, "wb") as file:
        file.write(data)
    weights = c.c_void_p()
    if lib.cumega_weights_open(context, path, c.byref(weights)) != 0:
        return lib.cumega_context_message(context).decode()
    tensors = {}
    for i in range(lib.cumega_weights_count(weights)):
        pointer = lib.cumega_weights_at(weights, i)
        e = pointer.contents
        memory = c.create_string_buffer(max(e.bytes, 1))
        assert lib.cumega_weights_read(context, weights, pointer, memory, e.bytes) == 0
        shape = list(e.shape[: e.ndim]) if e.ndim >= 0 else None
        tensors[e.name.decode()] = (e.dtype_name.decode(), shape, memory.raw[: e.bytes])
    lib.cumega_weights_close(weights)
    return tensors


def theirs(data):
    try:
        return {n: (t["dtype"], list(t["shape"]), bytes(t["data"])) for n, t in deserialize(data)}
    except Exception as error:  # SafetensorError, or a Rust panic in the package
        return str(error)


KNOWN = {
    "U64",
    "I64",
    "F64",
    "C64",
    "F32",
    "U32",
    "I32",
    "BF16",
    "F16",
    "U16",
    "I16",
    "F8_E8M0",
    "F8_E4M3",
    "F8_E5M2",
    "I8",
    "U8",
    "F6_E3M2",
    "F6_E2M3",
    "F4",
    "BOOL",
}


# Where cumega is stricter on purpose: readers disagree about a name that occurs twice and about a
# number beyond 63 bits, and no real description has more than 4096 bytes.
STRICTER = ["twice", "too big integer", "64 bits can count", "more than the 4096 allowed"]


def compare(data, with_save):
    """ "same", "meant: ..." if the two differ on purpose, or what is wrong."""
    a, b = ours(data), theirs(data)
    if isinstance(a, str) and isinstance(b, str):
        return "same"
    if isinstance(b, str):
        if any(t[0] not in KNOWN for t in a.values()):
            return "meant: we list types that the package does not know"
        return f"only we accept: {b}"
    if isinstance(a, str):
        for reason in STRICTER:
            if reason in a:
                return f"meant: only the package accepts: {reason}"
        return f"only the package accepts: {a}"
    for name, (dtype, shape, content) in b.items():
        if (
            name not in a
            or a[name][2] != content
            or a[name][1] not in (None, shape)
            or a[name][0] != dtype
        ):
            return f"'{name}' differs"
    if len(a) != len(b):
        return "another number of tensors"
    return saved(a) if with_save else "same"


def saved(tensors):
    """The package must read the same tensors from a file that cumega wrote."""
    known = [t for t in tensors.items() if t[1][1] is not None and t[1][0] in CODES]
    named, keep = (Named * (len(known) + 1))(), []
    for i, (name, (dtype, shape, content)) in enumerate(known):
        memory = c.create_string_buffer(content, max(len(content), 1))
        sizes = (c.c_int64 * 8)(*shape)
        code, bits = CODES[dtype]
        tensor = Tensor(
            c.cast(memory, c.c_void_p),
            Device(1, 0),
            len(shape),
            Dtype(code, bits, 1),
            sizes,
            None,
            0,
        )
        keep += [memory, sizes, tensor]
        named[i] = Named(name.encode(), c.pointer(tensor))
    if lib.cumega_weights_save(context, path, named, len(known), None, 0) != 0:
        return "not saved: " + lib.cumega_context_message(context).decode()
    with open(path, "rb") as file:
        return "same" if theirs(file.read()) == dict(known) else "what we saved is read otherwise"


CODES = {
    "U64": (1, 64),
    "I64": (0, 64),
    "F64": (2, 64),
    "C64": (5, 64),
    "F32": (2, 32),
    "U32": (1, 32),
    "I32": (0, 32),
    "BF16": (4, 16),
    "F16": (2, 16),
    "U16": (1, 16),
    "I16": (0, 16),
    "I8": (0, 8),
    "U8": (1, 8),
    "BOOL": (6, 8),
}


def main():
    subprocess.run([sys.argv[2], folder.name], check=True)
    seeds = sorted(f for f in os.listdir(folder.name) if f.startswith("seed-"))
    chooser, verdicts = random.Random(1), {}
    for seed in seeds:
        with open(os.path.join(folder.name, seed), "rb") as file:
            data = file.read()
        damaged = [data] + [data[:cut] for cut in range(len(data))]
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(flipped))
        for _ in range(100):
            changed = bytearray(data)
            for _ in range(chooser.randrange(1, 4)):
                changed[chooser.randrange(len(changed))] = chooser.choice(
                    b'0123456789{}[],:"\\ux \x00\xff-.eE'
                )
            damaged.append(bytes(changed))
        for i, file in enumerate(damaged):
            count = verdicts.setdefault(compare(file, i % 50 == 0), [0, file])
            count[0] += 1
    wrong = [v for v in verdicts if v != "same" and not v.startswith("meant: ")]
    for verdict, (count, example) in sorted(verdicts.items(), key=lambda v: -v[1][0]):
        print(f"{count:6}  {verdict}" + (f"\n        {example}" if verdict in wrong else ""))
    return 1 if wrong else 0


sys.exit(main())
