"""ResNets for CIFAR, EfficientNet-Lite0 and vision transformers in eager PyTorch, from the published names of our weights.

Imported only where torch is installed. Batch normalisation uses the stored statistics, as networks here are used and trained.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from cimm_jax.networks.efficientnet import NORM as LITE_NORM
from cimm_jax.networks.efficientnet import EfficientNetConfig
from cimm_jax.networks.resnet import NORM as RESNET_NORM
from cimm_jax.networks.resnet import ResNetConfig
from cimm_jax.networks.vit import VitConfig

Tensors = dict[str, torch.Tensor]
STORED = ("running_mean", "running_var")


def tensors_of(arrays: Mapping[str, np.ndarray], *, channels_last: bool) -> Tensors:
    """Copies; all but stored statistics with a gradient."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    found = {}
    for key, array in arrays.items():
        tensor = torch.tensor(np.asarray(array))
        tensor = tensor.to(memory_format=layout) if tensor.ndim == 4 else tensor
        found[key] = tensor.requires_grad_(not key.endswith(STORED))
    return found


def images_of(x: np.ndarray, *, channels_last: bool) -> torch.Tensor:
    """Images of shape (N, height, width, 3) as PyTorch has them."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.tensor(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def forward_of(config: Any) -> Callable[[Tensors, torch.Tensor], torch.Tensor]:
    """Logits of a network, a function of (tensors, images)."""
    forward = {ResNetConfig: _resnet, EfficientNetConfig: _lite, VitConfig: _vit}[type(config)]
    return lambda tensors, x: forward(config, tensors, x)


def trainer(
    config: Any, tensors: Tensors, rate: float, momentum: float
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """A function that makes one step of SGD on the cross-entropy of (images, labels)."""
    optimizer = torch.optim.SGD([one for one in tensors.values() if one.requires_grad], lr=rate, momentum=momentum)
    forward = forward_of(config)

    def step(x: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(forward(tensors, x), labels).backward()
        optimizer.step()

    return step


def _norm(t: Tensors, key: str, x: torch.Tensor, epsilon: float) -> torch.Tensor:
    stored = (t[f"{key}.{name}"] for name in STORED)
    return functional.batch_norm(x, *stored, t[f"{key}.weight"], t[f"{key}.bias"], eps=epsilon)


def _resnet(config: ResNetConfig, t: Tensors, x: torch.Tensor) -> torch.Tensor:
    def unit(conv: str, norm: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        return _norm(t, norm, functional.conv2d(x, t[f"{conv}.weight"], stride=stride, padding=1), RESNET_NORM.epsilon)

    x = functional.relu(unit("conv1", "bn1", x))
    for stage, blocks in enumerate(config.blocks, 1):
        for block in range(blocks):
            key = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = functional.relu(unit(f"{key}.conv1", f"{key}.bn1", x, stride))
            y = unit(f"{key}.conv2", f"{key}.bn2", y)
            more = (y.shape[1] - x.shape[1]) // 2
            x = functional.relu(y + functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more, more)))
    return functional.linear(x.mean((2, 3)), t["linear.weight"], t["linear.bias"])


def _lite(config: EfficientNetConfig, t: Tensors, x: torch.Tensor) -> torch.Tensor:
    def unit(prefix: str, conv: str, norm: int, x: torch.Tensor, stride: int = 1, groups: int = 1) -> torch.Tensor:
        kernel = t[f"{prefix}_{conv}.weight"]
        pads = []
        for length, size in zip(x.shape[:1:-1], kernel.shape[:1:-1], strict=True):
            missing = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads += [missing // 2, missing - missing // 2]
        if pads[0] == pads[1] and pads[2] == pads[3]:
            y = functional.conv2d(x, kernel, stride=stride, padding=(pads[2], pads[0]), groups=groups)
        else:
            y = functional.conv2d(functional.pad(x, pads), kernel, stride=stride, groups=groups)
        return _norm(t, f"{prefix}_bn{norm}", y, LITE_NORM.epsilon)

    x = functional.relu6(unit("", "conv_stem", 0, x, 2))
    number = 0
    for stage in config.stages:
        for block in range(stage.blocks):
            prefix, y = f"_blocks.{number}.", x
            if stage.expand != 1:
                y = functional.relu6(unit(prefix, "expand_conv", 0, y))
            y = functional.relu6(unit(prefix, "depthwise_conv", 1, y, stage.stride if block == 0 else 1, y.shape[1]))
            y = unit(prefix, "project_conv", 2, y)
            x = x + y if y.shape == x.shape else y
            number += 1
    x = functional.relu6(unit("", "conv_head", 1, x))
    return functional.linear(x.mean((2, 3)), t["_fc.weight"], t["_fc.bias"])


def _vit(config: VitConfig, t: Tensors, x: torch.Tensor) -> torch.Tensor:
    """By timm's names."""

    def linear(key: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, t[f"{key}.weight"], t[f"{key}.bias"])

    def norm(key: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, (config.width,), t[f"{key}.weight"], t[f"{key}.bias"], config.norm_epsilon)

    x = functional.conv2d(x, t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], stride=config.patch)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([t["cls_token"].expand(len(x), -1, -1), x], 1) + t["pos_embed"]
    for number in range(config.depth):
        key = f"blocks.{number}"
        parts = linear(f"{key}.attn.qkv", norm(f"{key}.norm1", x)).unflatten(2, (3, config.heads, -1))
        mixed = functional.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4))
        x = x + linear(f"{key}.attn.proj", mixed.transpose(1, 2).flatten(2))
        x = x + linear(f"{key}.mlp.fc2", functional.gelu(linear(f"{key}.mlp.fc1", norm(f"{key}.norm2", x))))
    return linear("head", norm("norm", x[:, 0]))
