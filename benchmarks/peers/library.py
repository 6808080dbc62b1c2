"""The part of cumega's C API that the peers need: ctypes over libcumega.so, no copies of tensors.

The structs are those of include/cumega/*.h and of DLPack. A tensor is anything with data_ptr(),
shape and stride(), like PyTorch's, and must outlive everything made from it.
"""

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_int32, c_int64
from ctypes import c_size_t, c_uint8, c_uint16, c_uint64, c_void_p


class DLDevice(Structure):
    _fields_ = [("device_type", c_int), ("device_id", c_int32)]


class DLDataType(Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class DLTensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device", DLDevice),
        ("ndim", c_int32),
        ("dtype", DLDataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class EmaConfig(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("size", c_int64),
        ("num_heads", c_int64),
        ("truncation_length", c_int64),
        ("state_dtype", DLDataType),
        ("activation", c_int),
        ("swish_beta", c_double),
        ("leakyrelu_neg_slope", c_double),
        ("hardtanh_min_val", c_double),
        ("hardtanh_max_val", c_double),
        ("smish_alpha", c_double),
        ("smish_beta", c_double),
        ("ftswish_threshold", c_double),
        ("ftswish_mean_shift", c_double),
    ]


PARAMETERS = (
    "damping_factor",
    "decay_factor",
    "ema_expansion_matrix",
    "kernel_projection_matrix",
    "residual_weight",
)


class EmaParameters(Structure):
    _fields_ = [("struct_size", c_size_t)] + [(name, POINTER(DLTensor)) for name in PARAMETERS]


class EmaIo(Structure):
    _fields_ = (
        [("struct_size", c_size_t)]
        + [
            (name, POINTER(DLTensor))
            for name in (
                "x",
                "y",
                "mask",
                "sequence_lengths",
                "sequence_offsets",
                "initial_state",
                "final_state",
                "initial_slots",
                "final_slots",
            )
        ]
        + [("ignore_truncation", c_int32), ("raw", c_int32), ("algorithm", c_int)]
    )


class PositionBiasConfig(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_int),
        ("max_positions", c_int64),
        ("size", c_int64),
        ("dtype", DLDataType),
    ]


class PositionBiasParameters(Structure):
    _fields_ = [("struct_size", c_size_t)] + [
        (name, POINTER(DLTensor)) for name in ("relative_position_bias", "alpha", "beta")
    ]


class AttentionScoresIo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("scores", POINTER(DLTensor)),
        ("output", POINTER(DLTensor)),
        ("scale", c_double),
        ("causal", c_int32),
        ("nan_rows", c_int32),
        ("attention_mask", POINTER(DLTensor)),
        ("key_padding_mask", POINTER(DLTensor)),
        ("query_lengths", POINTER(DLTensor)),
        ("key_lengths", POINTER(DLTensor)),
        ("bias", c_void_p),
    ]


class Allocator(Structure):
    _fields_ = [("allocate", c_void_p), ("release", c_void_p), ("user", c_void_p)]


class ContextOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", DLDevice),
        ("stream", c_void_p),
        ("threads", c_int32),
        ("memory_limit", c_int64),
        ("allocator", Allocator),
        ("log_callback", c_void_p),
        ("log_user", c_void_p),
    ]


CPU, CUDA = DLDevice(1, 0), DLDevice(2, 0)
FLOAT32 = DLDataType(2, 32, 1)
NO_TRUNCATION = 2**63 - 1


class Failure(Exception):
    """A failed call's message."""


def describe(tensor):
    """The DLTensor of a float32 torch tensor, on the CPU or the first GPU."""
    device = CUDA if tensor.device.type == "cuda" else CPU
    ndim = len(tensor.shape)
    shape = (c_int64 * ndim)(*tensor.shape)
    strides = (c_int64 * ndim)(*tensor.stride())
    return DLTensor(tensor.data_ptr(), device, ndim, FLOAT32, shape, strides, 0)


class Library:
    def __init__(self, path):
        self.calls = ctypes.CDLL(path)
        self.calls.cumega_version_string.restype = c_char_p
        self.calls.cumega_context_message.restype = c_char_p
        self.calls.cumega_context_message.argtypes = [c_void_p]
        self.calls.cumega_context_backend.restype = c_char_p
        self.calls.cumega_context_backend.argtypes = [c_void_p]
        self.calls.cumega_context_destroy.argtypes = [c_void_p]
        self.calls.cumega_context_destroy.restype = None
        self.calls.cumega_ema_destroy.argtypes = [c_void_p]
        self.calls.cumega_ema_destroy.restype = None
        for name in ("cumega_ema_forward", "cumega_ema_step"):
            getattr(self.calls, name).argtypes = [c_void_p, c_void_p, c_void_p]

        self.calls.cumega_position_bias_destroy.argtypes = [c_void_p]
        self.calls.cumega_position_bias_destroy.restype = None
        self.calls.cumega_position_bias_forward.argtypes = [c_void_p, c_void_p, c_void_p]
        self.calls.cumega_attention_softmax.argtypes = [c_void_p, c_void_p]

    def version(self):
        return self.calls.cumega_version_string().decode()


class Context:
    """On the device "cpu" or "cuda"; stream is a cudaStream_t as an integer, or None."""

    def __init__(self, library, threads, device="cpu", stream=None):
        self.calls = library.calls
        self.pointer = c_void_p()
        place = CPU if device == "cpu" else CUDA
        options = ContextOptions(struct_size=ctypes.sizeof(ContextOptions), device=place)
        options.threads = threads
        options.stream = stream
        self.check(self.calls.cumega_context_create(byref(options), byref(self.pointer)))

    def check(self, status):
        if status:
            raise Failure(self.calls.cumega_context_message(self.pointer).decode())

    def backend(self):
        return self.calls.cumega_context_backend(self.pointer).decode()

    def close(self):
        self.calls.cumega_context_destroy(self.pointer)


class Ema:
    """An EMA with the parameters of an ESPnet module."""

    def __init__(self, context, module, activation):
        size, heads = module.kernel_projection_matrix.shape
        calls = context.calls
        number = c_int()
        if not calls.cumega_activation_from_name(activation.encode(), byref(number)):
            raise Failure(f"no activation {activation}")
        config = EmaConfig(ctypes.sizeof(EmaConfig), size, heads, NO_TRUNCATION, FLOAT32, number)
        tensors = {name: describe(getattr(module, name).detach()) for name in PARAMETERS}
        parameters = EmaParameters(ctypes.sizeof(EmaParameters))
        for name, tensor in tensors.items():
            setattr(parameters, name, ctypes.pointer(tensor))
        self.context = context
        self.pointer = c_void_p()
        context.check(
            calls.cumega_ema_create(
                context.pointer, byref(config), byref(parameters), byref(self.pointer)
            )
        )

    def prepare(self, name, **tensors):
        """A function without arguments that calls cumega_ema_<name> on the tensors."""
        io = EmaIo(struct_size=ctypes.sizeof(EmaIo))
        for key, tensor in tensors.items():
            setattr(io, key, ctypes.pointer(describe(tensor)))
        call = getattr(self.context.calls, f"cumega_ema_{name}")
        context, ema, argument = self.context.pointer, self.pointer, byref(io)

        def run():
            if call(context, ema, argument):
                self.context.check(1)

        run()  # reports wrong arguments
        return run

    def close(self):
        self.context.calls.cumega_ema_destroy(self.pointer)


class PositionBias:
    """A bias with the parameters of an ESPnet module."""

    @classmethod
    def of(cls, context, pointer):
        """The same bias with another context."""
        shared = cls.__new__(cls)
        shared.context, shared.pointer = context, pointer
        return shared

    def __init__(self, context, module):
        calls = context.calls
        self.context = context
        self.pointer = c_void_p()
        config, parameters = PositionBiasConfig(), PositionBiasParameters()
        calls.cumega_position_bias_config_init(
            byref(config), c_size_t(ctypes.sizeof(config)), c_int64(module.max_positions)
        )
        parameters.struct_size = ctypes.sizeof(parameters)
        names = ("relative_position_bias",)
        if hasattr(module, "alpha"):
            config.kind, config.size = 1, module.size
            names = ("alpha", "beta")
        for name in names:
            setattr(parameters, name, ctypes.pointer(describe(getattr(module, name).detach())))
        context.check(
            calls.cumega_position_bias_create(
                context.pointer, byref(config), byref(parameters), byref(self.pointer)
            )
        )

    def softmax(self, scores, output, scale, causal):
        """A function without arguments."""
        io = AttentionScoresIo(scale=scale, causal=causal, bias=self.pointer)
        io.struct_size = ctypes.sizeof(io)
        io.scores = ctypes.pointer(describe(scores))
        io.output = ctypes.pointer(describe(output))
        call = self.context.calls.cumega_attention_softmax
        return self.function(lambda: call(self.context.pointer, byref(io)))

    def forward(self, output):
        """A function without arguments."""
        matrix = describe(output)
        call = self.context.calls.cumega_position_bias_forward
        return self.function(lambda: call(self.context.pointer, self.pointer, byref(matrix)))

    def function(self, call):
        def run():
            if call():
                self.context.check(1)

        run()  # an argument that is wrong is said here
        return run

    def close(self):
        self.context.calls.cumega_position_bias_destroy(self.pointer)
