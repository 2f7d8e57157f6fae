import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.small_networks import SMALL, filled, images
from safetensors.numpy import load_file, save_file

from cimm_jax.errors import InputError
from cimm_jax.networks.weights import export_weights, load_weights


def named(config, names):
    """A network whose arrays all differ, as if it had been loaded from the given publisher."""
    return filled(dataclasses.replace(config, names=names))


def arrays(model):
    return {path: np.asarray(value[...]) for path, value in nnx.to_flat_state(nnx.state(model))}


def assert_same(one, other):
    one, other = arrays(one), arrays(other)
    assert one.keys() == other.keys()
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path], err_msg=str(path))


PUBLISHERS = [
    ("resnet_transformers", "transformers"),
    ("resnet_transformers", "timm"),
    ("resnet_cifar", "cifar"),
    ("vit_transformers", "transformers"),
    ("vit_transformers", "timm"),
    ("efficientnet", "efficientnet_lite_pytorch"),
    ("linear", "torch"),
]


@pytest.mark.parametrize(("name", "names"), PUBLISHERS)
def test_what_is_exported_is_loaded_again(name, names, tmp_path):
    model = named(SMALL[name], names)
    path = export_weights(model, tmp_path / "model.safetensors")
    again = load_weights(SMALL[name], path)  # the publisher is recognised
    assert again.config.names == names
    assert again.cuts == model.cuts
    assert_same(again, model)
    assert export_weights(again, tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


# What one tensor of each kind is called, and the array of the model that it is, written by hand.
EXAMPLES = {
    ("resnet_transformers", "transformers"): [
        ("resnet.embedder.embedder.convolution.weight", "parts/stem/first/conv/kernel", (3, 2, 0, 1)),
        (
            "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight",
            "parts/layer2.0/project/conv/kernel",
            (3, 2, 0, 1),
        ),
        ("resnet.encoder.stages.1.layers.1.layer.1.normalization.running_var", "parts/layer2.1/second/norm/var", (0,)),
        ("classifier.1.weight", "head/kernel", (1, 0)),
    ],
    ("resnet_transformers", "timm"): [
        ("conv1.weight", "parts/stem/first/conv/kernel", (3, 2, 0, 1)),
        ("layer2.0.downsample.0.weight", "parts/layer2.0/project/conv/kernel", (3, 2, 0, 1)),
        ("layer2.0.downsample.1.weight", "parts/layer2.0/project/norm/scale", (0,)),
        ("layer2.1.bn2.running_mean", "parts/layer2.1/second/norm/mean", (0,)),
        ("fc.bias", "head/bias", (0,)),
    ],
    ("resnet_cifar", "cifar"): [
        ("layer3.0.conv1.weight", "parts/layer3.0/first/conv/kernel", (3, 2, 0, 1)),
        ("linear.weight", "head/kernel", (1, 0)),
    ],
    ("vit_transformers", "timm"): [
        ("cls_token", "parts/embed/class_token", (0, 1, 2)),
        ("pos_embed", "parts/embed/position", (0, 1, 2)),
        ("patch_embed.proj.weight", "parts/embed/patches/kernel", (3, 2, 0, 1)),
        ("blocks.1.attn.proj.weight", "parts/block1/out/kernel", (1, 0)),
        ("blocks.1.norm2.bias", "parts/block1/norm2/bias", (0,)),
        ("blocks.0.mlp.fc1.weight", "parts/block0/up/kernel", (1, 0)),
        ("norm.weight", "parts/norm/norm/scale", (0,)),
    ],
    ("efficientnet", "efficientnet_lite_pytorch"): [
        ("_conv_stem.weight", "parts/stem/inner/conv/kernel", (3, 2, 0, 1)),
        ("_blocks.1._depthwise_conv.weight", "parts/block1/depthwise/conv/kernel", (3, 2, 0, 1)),
        ("_blocks.1._bn0.weight", "parts/block1/expand/inner/norm/scale", (0,)),
        ("_bn1.running_var", "parts/top/inner/norm/var", (0,)),
    ],
    ("linear", "torch"): [("extractor.weight", "parts/linear/theta/kernel", (1, 0))],
}


@pytest.mark.parametrize(("name", "names"), EXAMPLES)
def test_an_export_has_the_publishers_names_and_layouts(name, names, tmp_path):
    model = named(SMALL[name], names)
    file = load_file(export_weights(model, tmp_path / "model.safetensors"))
    ours = {"/".join(path): array for path, array in arrays(model).items()}
    for key, path, axes in EXAMPLES[name, names]:
        np.testing.assert_array_equal(file[key], ours[path].transpose(axes), err_msg=key)


def test_timm_stores_query_key_and_value_as_one(tmp_path):
    model = named(SMALL["vit_transformers"], "timm")
    file = load_file(export_weights(model, tmp_path / "model.safetensors"))
    block = model.parts["block1"]
    weight, bias = file["blocks.1.attn.qkv.weight"], file["blocks.1.attn.qkv.bias"]
    assert weight.shape == (48, 16)
    for index, layer in enumerate((block.query, block.key, block.value)):
        rows = slice(16 * index, 16 * (index + 1))
        np.testing.assert_array_equal(weight[rows], np.asarray(layer.kernel[...]).T)
        np.testing.assert_array_equal(bias[rows], layer.bias[...])


@pytest.mark.parametrize(("names", "epsilon"), [("timm", 1e-6), ("transformers", 1e-12)])
def test_a_publishers_epsilon_comes_with_its_weights(names, epsilon, tmp_path):
    path = export_weights(named(SMALL["vit_transformers"], names), tmp_path / "model.safetensors")
    model = load_weights(SMALL["vit_transformers"], path)
    assert model.config.norm_epsilon == epsilon
    assert {model.parts["block0"].norm1.epsilon, model.parts["norm"].norm.epsilon} == {epsilon}


@pytest.fixture
def saved(tmp_path):
    """A network's file as a dictionary, and a function that writes another beside it and loads it."""
    tensors = load_file(export_weights(filled(SMALL["resnet_cifar"]), tmp_path / "model.safetensors"))

    def load(tensors, **settings):
        save_file(tensors, tmp_path / "other.safetensors")
        return load_weights(SMALL["resnet_cifar"], tmp_path / "other.safetensors", **settings)

    return tensors, load


def test_all_keys_that_do_not_fit_are_in_one_message(saved):
    tensors, load = saved
    del tensors["conv1.weight"], tensors["layer3.0.bn2.bias"]
    tensors["linear.weight"] = np.zeros((5, 12), np.float32)
    tensors["layer1.0.bn1.weight"] = np.zeros(3, np.float32)
    tensors["layer1.0.bn1.bias"] = np.zeros(4, np.int64)
    tensors["layer9.weight"] = tensors["extra"] = np.zeros(1, np.float32)
    with pytest.raises(InputError) as error:
        load(tensors)
    message = str(error.value)
    assert "missing: conv1.weight, layer3.0.bn2.bias;" in message
    assert "surplus: extra, layer9.weight;" in message
    assert "misshapen: layer1.0.bn1.weight (3,) for (4,), linear.weight (5, 12) for (3, 12);" in message
    assert message.endswith("not floating-point: layer1.0.bn1.bias I64")
    assert "\n" not in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "key", ["conv1.weight", "layer2.0.bn1.running_var", "layer1.0.bn1.running_mean", "linear.bias"]
)
def test_a_number_that_is_not_finite_is_refused_with_its_tensor(saved, key, value):
    tensors, load = saved
    tensors[key].reshape(-1)[0] = value
    with pytest.raises(InputError, match=rf"has numbers that are not finite in float32 in {key}; download it again"):
        load(tensors)


def test_all_tensors_of_no_meaning_are_in_one_message(saved):
    tensors, load = saved
    for key in ("bn1.running_var", "layer3.0.bn2.running_var"):
        tensors[key][1] = -1e-7
    tensors["conv1.weight"][0] = np.nan
    with pytest.raises(InputError) as caught:
        load(tensors)
    assert (
        "numbers that are not finite in float32 in conv1.weight; "
        "negative variances in bn1.running_var, layer3.0.bn2.running_var; download it again"
    ) in str(caught.value)


def test_a_variance_of_zero_and_other_negative_numbers_are_as_they_are(saved):
    tensors, load = saved
    tensors["bn1.running_var"][:] = 0
    tensors["bn1.running_mean"][:] = -1
    tensors["bn1.weight"][:] = -1
    assert float(load(tensors).parts["stem"].first.norm.var[...].sum()) == 0


def test_a_number_that_float32_has_no_place_for_is_refused(saved):
    tensors, load = saved
    wide = {key: value.astype(np.float64) for key, value in tensors.items()}
    load(wide)
    wide["linear.weight"][0, 0] = 1e300
    with pytest.raises(InputError, match=r"not finite in float32 in linear\.weight; "):
        load(wide)


@pytest.mark.parametrize("name", ["resnet_transformers", "efficientnet"])
def test_every_variance_of_every_publisher_has_a_sign(name, tmp_path):
    for key_map in SMALL[name].key_maps:
        model = named(SMALL[name], key_map.name)
        tensors = load_file(export_weights(model, tmp_path / "model.safetensors"))
        variances = [key for key in tensors if "running_var" in key]
        assert len(variances) > 5
        for key in variances[::4]:
            save_file({**tensors, key: -tensors[key]}, tmp_path / "other.safetensors")
            with pytest.raises(InputError, match=f"negative variances in {re.escape(key)}; "):
                load_weights(SMALL[name], tmp_path / "other.safetensors")


def test_pytorchs_batch_counters_are_not_missed_and_not_minded(saved):
    tensors, load = saved
    model = load(tensors | {"bn1.num_batches_tracked": np.int64(7)[None]})
    assert_same(model, load(tensors))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_floating_point_numbers_become_float32(dtype, saved):
    tensors, load = saved
    cast = {key: value.astype(dtype) for key, value in tensors.items()}
    model = load(cast)
    kernel = model.head.kernel[...]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, cast["linear.weight"].astype(np.float32).T)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = export_weights(filled(SMALL["vit_transformers"]), tmp_path / "vit.safetensors")
    with pytest.raises(InputError, match=r"vit\.safetensors holds another architecture than ResNetConfig: .*like clas"):
        load_weights(SMALL["resnet_transformers"], path)


def test_weights_of_another_size_are_refused(tmp_path):
    path = export_weights(filled(SMALL["resnet_cifar"]), tmp_path / "model.safetensors")
    deeper = dataclasses.replace(SMALL["resnet_cifar"], blocks=(2, 2, 1))
    with pytest.raises(InputError, match=r"missing: layer1\.1\.bn1\.bias, .*layer1\.1\.conv2\.weight$"):
        load_weights(deeper, path)


def test_a_publisher_can_be_named(saved):
    tensors, load = saved
    assert load(tensors, names="cifar").config.names == "cifar"
    with pytest.raises(InputError, match=r"\(timm\): missing: fc\.bias, fc\.weight; surplus: linear\.bias"):
        load(tensors, names="timm")
    with pytest.raises(
        InputError, match="names: 'keras' is no key map of ResNetConfig; choose one of transformers, timm"
    ):
        load(tensors, names="keras")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"\x80\x02ctorch", "cut short", "cut long"])
def test_a_file_that_is_no_whole_safetensors_file_is_refused(content, tmp_path):
    path = tmp_path / "model.safetensors"
    whole = export_weights(filled(SMALL["linear"]), path).read_bytes()
    path.write_bytes({"cut short": whole[:-1], "cut long": whole[:30]}.get(content, content))
    with pytest.raises(InputError, match=r"model\.safetensors is no whole safetensors file"):
        load_weights(SMALL["linear"], path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        load_weights(SMALL["linear"], tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"cannot write .*; choose a folder"):
        export_weights(filled(SMALL["linear"]), tmp_path / "none" / "model.safetensors")


def test_a_changed_network_is_exported_with_its_changes(tmp_path):
    model = filled(SMALL["resnet_cifar"])
    model.parts["layer3.0"].second.conv.kernel[...] += 1
    again = load_weights(model.config, export_weights(model, tmp_path / "model.safetensors"))
    x = images(model.config)
    np.testing.assert_array_equal(again.features(x), model.features(x))
    before = filled(SMALL["resnet_cifar"])
    assert not np.allclose(again.features(x), before.features(x))
