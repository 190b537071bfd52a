"""The ggml algorithm as one writes it down first: one channel, autograd, torch.optim."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def networks(
    antennas: int, chains: int, users: int, width: int, seed: int
) -> tuple[nn.Module, ...]:
    """Network of the digital part and of the analog part."""
    torch.manual_seed(seed)
    return tuple(
        nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, size))
        for size in (2 * chains * users, 2 * antennas * chains)
    )


def rates(h: Tensor, analog: Tensor, digital: Tensor, noise: float) -> Tensor:
    """Rate of each user, one after the other."""
    found = []
    for k in range(h.shape[0]):
        heard = [(h[k] @ analog @ digital[:, j]).abs() ** 2 for j in range(h.shape[0])]
        rest = sum(p for j, p in enumerate(heard) if j != k) + noise
        found.append(torch.log2(1 + heard[k] / rest))
    return torch.stack(found)


def loss(h: Tensor, analog: Tensor, digital: Tensor, noise: float, beta: float) -> Tensor:
    r = rates(h, analog, digital, noise)
    return -r.mean() + beta * r.var()


def features(z: Tensor) -> Tensor:
    return torch.cat([z.real, z.imag], dim=1).flatten()


def change(x: Tensor, like: Tensor) -> Tensor:
    parts = x.view(like.shape[0], 2 * like.shape[1])
    return torch.complex(parts[:, : like.shape[1]], parts[:, like.shape[1] :])


def run(
    h: Tensor,
    noise: float,
    start: tuple[Tensor, Tensor],
    nets: tuple[nn.Module, ...],
    *,
    iterations: int,
    beta: float = 0.2,
    clear: bool = False,
) -> list[float]:
    """Mean rates after each iteration; ``clear`` sets the gradients of the start to zero first."""
    analog_start, digital_start = (x.clone().requires_grad_() for x in start)
    digital_net, analog_net = nets
    optimisers = (
        torch.optim.Adam(digital_net.parameters(), lr=1e-3),
        torch.optim.Adam(analog_net.parameters(), lr=1.5e-3),
    )
    digital = start[1]
    found = []
    for _ in range(iterations):
        if clear:
            analog_start.grad = digital_start.grad = None
        loss(h, analog_start, digital, noise, beta).backward()
        z = analog_start + change(analog_net(features(analog_start.grad)), analog_start)
        analog = z / z.abs()
        # The graph of F is still needed: the inner loss of D must not reach it.
        loss(h, analog.detach(), digital_start, noise, beta).backward()
        raw = digital_start + change(digital_net(features(digital_start.grad)), digital_start)
        scaled = raw / torch.linalg.norm(analog @ raw)
        for optimiser in optimisers:
            optimiser.zero_grad()
        outer = loss(h, analog, scaled, noise, beta)
        outer.backward(retain_graph=True)
        outer.backward()
        for optimiser in optimisers:
            optimiser.step()
        digital = scaled.detach()
        found.append(float(rates(h, analog.detach(), digital, noise).mean()))
    return found
