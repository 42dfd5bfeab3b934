"""Dense-Sparse-Dense in PyTorch: the same algorithm as dsd-ort's, written in the plainest way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

Batch = Sequence[np.ndarray]
"""What the loss is computed from: images and labels, or whatever a network takes."""


class Trained(NamedTuple):
    """State dict and masks after some phases, as arrays."""

    state: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]


def masks_of(weights: dict[str, torch.Tensor], sparsity: float) -> dict[str, torch.Tensor]:
    """Per layer, 0 at the round(N · sparsity) weights of smallest magnitude, the first among equals."""
    masks = {}
    for name, weight in weights.items():
        order = torch.argsort(weight.detach().abs().flatten(), stable=True)
        mask = torch.ones(weight.numel())
        mask[order[: round(weight.numel() * sparsity)]] = 0
        masks[name] = mask.reshape(weight.shape)
    return masks


def prunable(network: nn.Module) -> dict[str, torch.Tensor]:
    """Kernels and matrices but the first convolution's kernel."""
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {f"{name}.weight": module.weight for name, module in layers[1:]}


def cross_entropy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(network(images), labels)


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    phases: Iterable[tuple[float | None, float]],
    *,
    loss: Callable[..., torch.Tensor] = cross_entropy,
    pruned: Callable[[nn.Module], dict[str, torch.Tensor]] = prunable,
) -> Trained:
    """Trains *network* in place: for each phase (sparsity or None, learning rate), all batches once.

    *loss* is that of the network and a batch's tensors, *pruned* says which parameters a sparse phase prunes.
    """
    network.train()
    masks: dict[str, torch.Tensor] = {}
    for sparsity, rate in phases:
        for group in optimizer.param_groups:
            group["lr"] = rate
        active = masks_of(pruned(network), sparsity) if sparsity is not None else {}
        masks = active or masks
        parameters = dict(network.named_parameters())
        with torch.no_grad():
            for name, mask in active.items():
                parameters[name] *= mask
                for slot in optimizer.state[parameters[name]].values():
                    if slot is not None and slot.shape == mask.shape:
                        slot.mul_(mask)
        for batch in batches:
            optimizer.zero_grad()
            loss(network, *map(torch.from_numpy, batch)).backward()
            for name, mask in active.items():
                parameters[name].grad *= mask
            optimizer.step()
            with torch.no_grad():
                for name, mask in active.items():
                    parameters[name] *= mask
    state = {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}
    return Trained(state, {name: mask.numpy() for name, mask in masks.items()})
