"""Writes golden/*.safetensors: small random networks of the original frameworks, an input, and the outputs of their layers.

    python tests/networks/make_golden.py

Run by hand, with torch and transformers installed, when a golden network is added; the tests only read the files. The
ResNet and the vision transformer are those of transformers. The CIFAR ResNet and EfficientNet-Lite are written here, from
He et al. (2015), section 4.2, and Tan and Le (2019) with the changes of the Lite networks.

Weights and stored statistics are drawn so that each detail shows: variances small enough for epsilon to matter,
activations large enough for the 6 of ReLU6 and the tails of GELU. Keys of a file:

    weights/<key of the publisher>   input (NHWC)   output/<cut>: activations that enter the tail of that cut   logits
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import pad, relu, relu6
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

GOLDEN = Path(__file__).parent / "golden"


def randomise(model, generator):
    """Every tensor away from its usual initial value, so that a swapped or forgotten one shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            count = module.num_features
            module.weight.data = 0.5 + torch.rand(count, generator=generator)
            module.bias.data = 0.3 * torch.randn(count, generator=generator)
            module.running_mean = 0.3 * torch.randn(count, generator=generator)
            module.running_var = 0.05 + 0.3 * torch.rand(count, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            module.weight.data = 0.5 + torch.rand(module.normalized_shape, generator=generator)
            module.bias.data = 0.3 * torch.randn(module.normalized_shape, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            gain = 0.5 if isinstance(module, nn.Conv2d) else 1
            module.weight.data = gain * torch.randn(module.weight.shape, generator=generator) / fan_in**0.5
            if module.bias is not None:
                module.bias.data = 0.3 * torch.randn(module.bias.shape, generator=generator)
    return model.eval()


def recorded(model, modules, x):
    """What enters the tail of each cut, NHWC; the first cut's input is x itself, and the last one's the features."""
    outputs = {}

    def keep(name):
        def hook(module, inputs, result):
            tensor = result[0] if isinstance(result, tuple) else result
            outputs[name] = tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor

        return hook

    cuts = [*list(modules)[1:], "features"]
    handles = [module.register_forward_hook(keep(cut)) for cut, module in zip(cuts, modules.values(), strict=True)]
    with torch.no_grad():
        result = model(x)
    for handle in handles:
        handle.remove()
    logits = result if isinstance(result, torch.Tensor) else result.logits
    return outputs, logits


def write(name, weights, x, outputs, logits):
    tensors = {f"weights/{key}": value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    tensors |= {"input": x.permute(0, 2, 3, 1), "logits": logits}
    tensors |= {f"output/{cut}": value for cut, value in outputs.items()}
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    print(f"{path.name}: {path.stat().st_size} bytes, deviation of the layers:")
    print("  " + ", ".join(f"{cut} {value.std():.3g}" for cut, value in outputs.items()))


def transformers_resnet(generator):
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 8, 12], depths=[2, 2, 1, 1], layer_type="basic", num_labels=3
    )
    model = randomise(ResNetForImageClassification(config), generator)
    x = torch.randn(2, 3, 32, 32, generator=generator)
    modules = {"stem": model.resnet.embedder}
    for stage, layers in enumerate(model.resnet.encoder.stages):
        modules |= {f"layer{stage + 1}.{block}": layer for block, layer in enumerate(layers.layers)}
    modules["pool"] = model.resnet.pooler
    outputs, logits = recorded(model, modules, x)
    outputs["features"] = outputs["features"].flatten(1)
    write("resnet_transformers", model.state_dict(), x, outputs, logits)


def transformers_vit(generator):
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=4,
        num_labels=3,
    )  # fmt: skip
    model = randomise(ViTForImageClassification(config), generator)
    # Tokens of variance 1e-5 show the epsilon of the first normalisation; large inner layers, GELU's exact form.
    embeddings = model.vit.embeddings
    embeddings.cls_token.data = 3e-3 * torch.randn(1, 1, 16, generator=generator)
    embeddings.position_embeddings.data = 3e-3 * torch.randn(1, 17, 16, generator=generator)
    embeddings.patch_embeddings.projection.weight.data *= 3e-3
    embeddings.patch_embeddings.projection.bias.data *= 3e-3
    for name, parameter in model.named_parameters():
        if "attention" in name or "dense" in name or ".mlp." in name:
            parameter.data *= 1.5
    x = torch.randn(2, 3, 16, 16, generator=generator)
    blocks = {f"block{index}": layer for index, layer in enumerate(model.vit.layers)}
    outputs, logits = recorded(model, {"embed": embeddings} | blocks | {"norm": model.vit.layernorm}, x)
    outputs["features"] = outputs["features"][:, 0]
    model.save_pretrained(GOLDEN / "vit")  # under the names of the published files, which are not those of the modules
    from safetensors.torch import load_file

    saved = GOLDEN / "vit"
    weights = load_file(saved / "model.safetensors")
    for file in saved.iterdir():
        file.unlink()
    saved.rmdir()
    write("vit_transformers", weights, x, outputs, logits)


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride, self.extra = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        side = self.extra // 2
        shortcut = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, side, side))
        return relu(y + shortcut)


class CifarResNet(nn.Module):
    def __init__(self, blocks, widths, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stem = nn.Identity()
        inputs = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            layers = []
            for block in range(count):
                layers.append(CifarBlock(inputs, width, 2 if stage and not block else 1))
                inputs = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.pool = nn.Flatten()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.stem(relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.linear(self.pool(x.mean((2, 3))))

    def parts(self):
        modules = {"stem": self.stem}
        for stage in range(self.stages):
            layers = getattr(self, f"layer{stage + 1}")
            modules |= {f"layer{stage + 1}.{block}": layer for block, layer in enumerate(layers)}
        return modules | {"pool": self.pool}


class SameConv(nn.Conv2d):
    """TensorFlow's padding: the odd row and column at the end."""

    def forward(self, x):
        pads = []
        for length, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(pad(x, pads))


class LiteBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expand):
        super().__init__()
        inner, norm = inputs * expand, {"eps": 1e-3, "momentum": 0.01}
        self.adds = stride == 1 and inputs == outputs
        if expand != 1:
            self._expand_conv = SameConv(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, **norm)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, **norm)
        self._project_conv = SameConv(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, **norm)

    def forward(self, x):
        y = relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_bn0") else x
        y = relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """Stages are (blocks, kernel, stride, expand, outputs)."""

    def __init__(self, stages, stem, top, classes):
        super().__init__()
        self._conv_stem = SameConv(3, stem, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(stem, eps=1e-3, momentum=0.01)
        self.stem, self.top, self.pool = nn.Identity(), nn.Identity(), nn.Flatten()
        self._blocks = nn.ModuleList()
        inputs = stem
        for blocks, kernel, stride, expand, outputs in stages:
            for block in range(blocks):
                self._blocks.append(LiteBlock(inputs, outputs, kernel, 1 if block else stride, expand))
                inputs = outputs
        self._conv_head = SameConv(inputs, top, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(top, eps=1e-3, momentum=0.01)
        self._fc = nn.Linear(top, classes)

    def forward(self, x):
        x = self.stem(relu6(self._bn0(self._conv_stem(x))))
        for block in self._blocks:
            x = block(x)
        x = self.top(relu6(self._bn1(self._conv_head(x))))
        return self._fc(self.pool(x.mean((2, 3))))

    def parts(self):
        blocks = {f"block{index}": block for index, block in enumerate(self._blocks)}
        return {"stem": self.stem} | blocks | {"top": self.top, "pool": self.pool}


def cifar_resnet(generator):
    model = randomise(CifarResNet((1, 2, 1), (4, 8, 12), 3), generator)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    write("resnet_cifar", model.state_dict(), x, *recorded(model, model.parts(), x))


def efficientnet(generator):
    model = randomise(
        EfficientNetLite(((1, 3, 1, 1, 4), (2, 5, 2, 3, 6), (1, 3, 2, 6, 8)), stem=4, top=16, classes=3), generator
    )
    x = 2 * torch.randn(2, 3, 20, 20, generator=generator)
    write("efficientnet", model.state_dict(), x, *recorded(model, model.parts(), x))


if __name__ == "__main__":
    for seed, make in enumerate((transformers_resnet, transformers_vit, cifar_resnet, efficientnet)):
        torch.manual_seed(seed)
        make(torch.Generator().manual_seed(seed))
