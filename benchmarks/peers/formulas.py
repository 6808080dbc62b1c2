"""The peers' formulas in plain PyTorch, for machines with torch but without ESPnet.

They follow the definitions in docs/ema.md, in the order of operations of ESPnet's modules: the
kernel as a Vandermonde product, the convolution through three Fourier transforms of 2L. Each
result says which of the two ran.
"""

import math

import torch


class PlainEma(torch.nn.Module):
    """h[t] = p * expansion * x[t] + q * h[t-1], y = activation(projection h + w x)."""

    def __init__(self, size, heads, activation):
        super().__init__()
        for name in ("damping_factor", "decay_factor", "ema_expansion_matrix"):
            setattr(self, name, torch.nn.Parameter(0.2 * torch.randn(size, heads, 1)))
        signs = torch.ones(heads, 1)
        signs[1::2] = -1
        with torch.no_grad():
            self.ema_expansion_matrix.mul_(0.1).add_(signs)
        self.kernel_projection_matrix = torch.nn.Parameter(torch.randn(size, heads))
        self.residual_weight = torch.nn.Parameter(torch.randn(size))
        self.scaling = math.sqrt(1.0 / heads)
        self.activation = activation

    def compute_ema_coefficients(self):
        p = torch.sigmoid(self.damping_factor)
        return p, 1.0 - p * torch.sigmoid(self.decay_factor)

    def compute_ema_kernel(self, length):
        p, q = self.compute_ema_coefficients()
        powers = torch.arange(length, device=q.device, dtype=q.dtype).view(1, 1, length)
        terms = p * self.ema_expansion_matrix * torch.exp(powers * torch.log(q))
        return torch.einsum("dnl, dn -> dl", terms, self.kernel_projection_matrix * self.scaling)

    def step(self, x, state):
        p, q = self.compute_ema_coefficients()
        state = (p * self.ema_expansion_matrix).squeeze(-1) * x + q.squeeze(-1) * state
        e = torch.einsum("bdn, dn -> bd", state, self.kernel_projection_matrix * self.scaling)
        return e.unsqueeze(0), state

    def forward(self, x, state=None):
        residual = x * self.residual_weight
        length = x.size(0)
        x = x.permute(1, 2, 0)
        if state is not None:
            e, state = self.step(x, state["ema_state"])
            return self.activation(e + residual), state
        kernel = torch.fft.rfft(self.compute_ema_kernel(length).float(), n=2 * length)
        e = torch.fft.irfft(torch.fft.rfft(x.float(), n=2 * length) * kernel, n=2 * length)
        return self.activation(e[..., :length].permute(2, 0, 1).to(residual) + residual), None


class PlainRelativeBias(torch.nn.Module):
    """(L, L): the bias of key n for query m is the weight of n - m."""

    def __init__(self, max_positions):
        super().__init__()
        self.max_positions = max_positions
        self.relative_position_bias = torch.nn.Parameter(0.02 * torch.randn(2 * max_positions - 1))

    def forward(self, length):
        at = torch.arange(length, device=self.relative_position_bias.device)
        return self.relative_position_bias[self.max_positions - 1 + at[None, :] - at[:, None]]


class PlainRotaryBias(torch.nn.Module):
    """(L, L): products of alpha, rotated to a query's place, and beta, rotated to a key's."""

    def __init__(self, size, max_positions):
        super().__init__()
        self.size, self.max_positions = size, max_positions
        self.alpha = torch.nn.Parameter(0.02 * torch.randn(1, size))
        self.beta = torch.nn.Parameter(0.02 * torch.randn(1, size))

    def rotate(self, vector, length):
        half = self.size // 2
        steps = torch.arange(half, device=vector.device) * (-math.log(10000) / half)
        angles = torch.arange(length, device=vector.device)[:, None] * torch.exp(steps)
        first, second = vector[:, :half], vector[:, half:]
        sines, cosines = torch.sin(angles), torch.cos(angles)
        return torch.cat(
            [first * cosines - second * sines, second * cosines + first * sines], dim=1
        )

    def forward(self, length):
        queries, keys = self.rotate(self.alpha, length), self.rotate(self.beta, length)
        return torch.einsum("mk,nk->mn", queries, keys)


class PlainResidual(torch.nn.Module):
    """alpha * x + y."""

    def __init__(self, i_layer, d_input, d_model):
        super().__init__()

    def forward(self, x, y, transposed):
        return 1.0 * x + y


class PlainDecayResidual(torch.nn.Module):
    """beta falls with the layer's number; alpha^2 + beta^2 = 1."""

    def __init__(self, i_layer, d_input, d_model):
        super().__init__()
        self.beta = i_layer**-0.5

    def forward(self, x, y, transposed):
        return (1.0 - self.beta**2) ** 0.5 * x + self.beta * y
