"""Writes golden/hub/*/: checkpoint folders of the transformers library, tiny and random, with what the originals make of them.

    python tests/networks/make_golden_hub.py

Run by hand, with torch and transformers installed, when a family is added; the tests only read the files. A folder has what
`save_pretrained` writes, and golden.safetensors with

    image (uint8, HWC)   pixels: what the processor makes of it (HWC); of large ones, some rows and columns, evenly spaced
    input (NHWC)   output/<cut>: activations that enter the tail of that cut   logits, if there is a head
"""

from pathlib import Path

import torch
from make_golden import randomise, recorded
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    Dinov2Config,
    Dinov2ForImageClassification,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

GOLDEN = Path(__file__).parent / "golden" / "hub"
MEAN, DEVIATION = [0.48, 0.46, 0.41], [0.23, 0.22, 0.21]
HEIGHT, WIDTH = 27, 39
LARGE = 16
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4}


def processor(kind, **settings):
    return kind(image_mean=MEAN, image_std=DEVIATION, **settings)


def write(name, model, modules, processes, size, generator, features=lambda x: x):
    """What goes through the modules, in the order of the cuts; `features` makes features of what the last one gives."""
    model = randomise(model, generator)
    for key, parameter in model.named_parameters():
        if "lambda1" in key or "layer_scale" in key or "token" in key or "position" in key or "class_embedding" in key:
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(2, 3, size, size, generator=generator)
    tower = model.vision_model if isinstance(model, CLIPModel) else model
    image = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)
    outputs, logits = recorded(lambda x: _headed(tower(x)), modules, x)
    outputs["features"] = features(outputs["features"])
    pixels = torch.tensor(processes(image.numpy()).pixel_values[0]).permute(1, 2, 0).contiguous()
    step = max(1, len(pixels) // LARGE)
    tensors = {"image": image, "pixels": pixels[::step, ::step].float(), "input": x.permute(0, 2, 3, 1)}
    tensors |= {f"output/{cut}": value for cut, value in outputs.items()}
    if logits is not None:
        tensors["logits"] = logits
    folder = GOLDEN / name
    model.save_pretrained(folder)
    processes.save_pretrained(folder)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "golden.safetensors")
    print(f"{name}: {sum(path.stat().st_size for path in folder.iterdir())} bytes, deviation of the layers:")
    print("  " + ", ".join(f"{cut} {value.std():.3g}" for cut, value in outputs.items()))


def _headed(result):
    """So that `recorded` finds logits, also where there are none."""
    result.logits = getattr(result, "logits", None)
    return result


def resnet_modules(model):
    modules = {"stem": model.embedder}
    for stage, layers in enumerate(model.encoder.stages):
        modules |= {f"layer{stage + 1}.{block}": layer for block, layer in enumerate(layers.layers)}
    return modules | {"pool": model.pooler}


def resnet_bottleneck(generator):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 24], depths=[2, 1], layer_type="bottleneck", num_labels=3)
    model = ResNetForImageClassification(config)
    processes = processor(ConvNextImageProcessorPil, size={"shortest_edge": 30}, crop_pct=0.9, resample=2)
    write("resnet", model, resnet_modules(model.resnet), processes, 30, generator, lambda x: x.flatten(1))


def resnet_early(generator):
    """The paper's place of the stride, in the first stage too; a tower by itself."""
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        downsample_in_bottleneck=True,
        downsample_in_first_stage=True,
    )
    model = ResNetModel(config)
    processes = processor(ConvNextImageProcessorPil, size={"shortest_edge": 384})
    write("resnet_early", model, resnet_modules(model), processes, 32, generator, lambda x: x.flatten(1))


def vit(generator):
    """A tower by itself, with the pooler that nobody needs."""
    model = ViTModel(ViTConfig(**TRANSFORMER, intermediate_size=24, image_size=16, layer_norm_eps=1e-3, qkv_bias=False))
    modules = {"embed": model.embeddings} | _blocks(model.layers) | {"norm": model.layernorm}
    processes = processor(ViTImageProcessorPil, size={"height": 16, "width": 16})
    write("vit", model, modules, processes, 16, generator, lambda x: x[:, 0])


def deit(generator):
    model = DeiTForImageClassificationWithTeacher(
        DeiTConfig(**TRANSFORMER, intermediate_size=24, image_size=16, num_labels=3)
    )
    tower = model.deit
    modules = {"embed": tower.embeddings} | _blocks(tower.layers) | {"norm": tower.layernorm}
    sizes = {"size": {"height": 19, "width": 19}, "crop_size": {"height": 16, "width": 16}}
    write(
        "deit", model, modules, processor(DeiTImageProcessorPil, **sizes), 16, generator, lambda x: x[:, :2].flatten(1)
    )


def dinov2(generator):
    """Positions for images of 22 pixels, of which the last two are in no patch, resized for those of 16."""
    model = Dinov2ForImageClassification(Dinov2Config(**TRANSFORMER, mlp_ratio=2, image_size=22, num_labels=3))
    tower = model.dinov2
    modules = {"embed": tower.embeddings} | _blocks(tower.encoder.layer) | {"norm": tower.layernorm}
    sizes = {"size": {"shortest_edge": 21}, "crop_size": {"height": 16, "width": 16}}
    write(
        "dinov2",
        model,
        modules,
        processor(BitImageProcessorPil, **sizes),
        16,
        generator,
        lambda x: torch.cat([x[:, 0], x[:, 1:].mean(1)], 1),
    )


def clip(generator):
    """With a text tower, which is not read."""
    text = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text |= {"max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    image = TRANSFORMER | {"intermediate_size": 24, "image_size": 16}
    model = CLIPModel(CLIPConfig(vision_config=image, text_config=text, projection_dim=4))
    tower = model.vision_model
    modules = {"embed": tower.pre_layrnorm} | _blocks(tower.encoder.layers) | {"norm": tower.post_layernorm}
    sizes = {"size": {"shortest_edge": 17}, "crop_size": {"height": 16, "width": 16}}
    write("clip", model, modules, processor(CLIPImageProcessorPil, **sizes), 16, generator)


def convnext(generator):
    model = ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 2], num_stages=2, layer_norm_eps=1e-3, num_labels=3)
    )
    tower = model.convnext
    modules = {"stem": tower.embeddings}
    for stage, layers in enumerate(tower.encoder.stages):
        modules |= {f"stage{stage + 1}.{block}": layer for block, layer in enumerate(layers.layers)}
    processes = processor(ConvNextImageProcessorPil, size={"shortest_edge": 32}, crop_pct=0.875)
    write("convnext", model, modules | {"pool": tower.layernorm}, processes, 32, generator)


def efficientnet(generator):
    """Paddings of strides as TensorFlow's for these lengths, and others; width_coefficient makes channels 8, 16 and 24."""
    config = EfficientNetConfig(
        width_coefficient=0.02,
        depth_coefficient=1.0,
        in_channels=[400, 400, 800],
        out_channels=[400, 800, 1200],
        kernel_sizes=[3, 5, 3],
        strides=[1, 2, 2],
        expand_ratios=[1, 2, 3],
        num_block_repeats=[1, 2, 1],
        depthwise_padding=[1],
        hidden_dim=24,
        num_labels=3,
    )
    model = EfficientNetForImageClassification(config)
    tower = model.efficientnet
    modules = {"stem": tower.embeddings} | _blocks(tower.encoder.blocks)
    modules |= {"top": tower.encoder.top_activation, "pool": tower.pooler}
    sizes = {"size": {"height": 26, "width": 26}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True}
    processes = processor(EfficientNetImageProcessorPil, **sizes, resample=0, rescale_offset=True)
    write("efficientnet", model, modules, processes, 24, generator, lambda x: x.flatten(1))


def _blocks(layers):
    return {f"block{number}": layer for number, layer in enumerate(layers)}


if __name__ == "__main__":
    makers = (resnet_bottleneck, resnet_early, vit, deit, dinov2, clip, convnext, efficientnet)
    for seed, make in enumerate(makers):
        torch.manual_seed(seed)
        make(torch.Generator().manual_seed(seed))
