"""Checkpoint folders against the originals; `make_golden_hub.py` says where the numbers come from."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.hub_folders import HUB, NAMES, edit, loaded, variant
from networks.test_parity import TOLERANCE, distance, outputs
from safetensors.numpy import load_file, save_file

from cimm_jax.data.tensor_file import Described
from cimm_jax.errors import InputError
from cimm_jax.networks import checkpoint_folder, config_of, functional
from cimm_jax.networks.hub_folder import FAMILIES, TEXT, hub_config
from cimm_jax.networks.hub_transformers import hub_transformer
from cimm_jax.networks.json_fields import Fields
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.timm_names import timm_network
from cimm_jax.networks.transformer import bicubic_matrix
from cimm_jax.networks.weight_files import INDEX, weights_checksum, weights_of
from cimm_jax.networks.weights import export_weights, load_weights

HEADED = ("convnext", "deit", "dinov2", "efficientnet", "resnet")
UNIT = Preprocess.of_unit_pixels(224, (0.5,) * 3, (0.5,) * 3)


def state(model):
    return {path: np.asarray(value[...]) for path, value in nnx.to_flat_state(nnx.state(model))}


def assert_same(one, other):
    one, other = state(one), state(other)
    assert one.keys() == other.keys()
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path], err_msg=str(path))


def test_there_is_a_folder_of_every_family():
    kinds = {json.loads((HUB / name / "config.json").read_text())["model_type"] for name in NAMES}
    assert kinds == FAMILIES.keys() - {"clip_vision_model", *TEXT}


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_the_logits_and_the_pixels_are_those_of_the_original(name):
    golden = load_file(HUB / name / "golden.safetensors")
    model = loaded(HUB / name)
    expected = outputs(golden) | ({"logits": golden["logits"]} if "logits" in golden else {})
    assert {*expected, model.cuts[0]} == {*model.cuts, *(["logits"] if name in HEADED else [])}
    assert model.config.classes == (3 if name in HEADED else 0)

    @jax.jit
    def everything(parts, x):
        model, found = functional.merge(parts), {}
        for part, cut in zip(model.cuts[:-1], model.cuts[1:], strict=True):
            x = found[cut] = model.parts[part](x, False)
        return found | {"logits": model.head(x)}

    got = everything(functional.split(model), golden["input"])
    assert {cut: distance(got[cut], of) for cut, of in expected.items()} == dict.fromkeys(
        expected, pytest.approx(0, abs=TOLERANCE)
    )
    pooled = jax.eval_shape(functional.pooled, functional.split(model), golden["input"])
    assert pooled.keys() == {*model.cuts[:-1]}, "what the ladder puts heads on"
    assert all(of.shape[:-1] == (2,) for of in pooled.values())
    of = model.config.preprocess
    step = max(1, of.size // 16)
    pixels = of(of.fit(golden["image"], of.size)[None])[0, ::step, ::step]
    np.testing.assert_allclose(pixels, golden["pixels"], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_exported_takes_the_place_of_the_original(name, tmp_path):
    model, weights = loaded(HUB / name), HUB / name / "model.safetensors"
    path = export_weights(model, tmp_path / "model.safetensors", others_from=weights)
    assert_same(load_weights(model.config, path), model)
    original, exported = load_file(weights), load_file(path)
    assert exported.keys() == {key for key in original if not key.endswith("num_batches_tracked")}
    for key, tensor in exported.items():
        if name == "deit" and key.endswith("classifier.bias"):  # only their mean is known
            both = [original[f"{head}.bias"] for head in ("cls_classifier", "distillation_classifier")]
            np.testing.assert_allclose(tensor, (both[0] + both[1]) / 2, rtol=1e-6)
        else:
            np.testing.assert_array_equal(tensor, original[key], err_msg=key)


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("clip", lambda key: key if key.startswith("vision_model.") else None),
        ("clip", lambda key: key.removeprefix("vision_model.") if key.startswith("vision_model.") else None),
        ("vit", lambda key: None if key.startswith("pooler.") else f"vit.{key}"),
        ("resnet_early", lambda key: f"resnet.{key}"),
    ],
)
def test_towers_are_read_with_and_without_what_their_keys_begin_with(name, rename, tmp_path):
    fields = json.loads((HUB / name / "config.json").read_text())
    folder = variant(name, tmp_path / "other", rename=rename, **fields.get("vision_config", {}))
    assert_same(loaded(folder), loaded(HUB / name))


@pytest.mark.parametrize("name", HEADED)
def test_without_its_classifier_a_network_is_features_alone(name, tmp_path):
    def rename(key):
        return None if "classifier" in key else key.split(".", 1)[1]

    whole, tower = loaded(HUB / name), loaded(variant(name, tmp_path / "tower", rename=rename))
    assert (tower.config.classes, tower.head.kernel.shape[1]) == (0, 0)
    assert {path: array for path, array in state(tower).items() if path[0] != "head"}.keys() == {
        path for path in state(whole) if path[0] != "head"
    }
    if name == "dinov2":  # the class token alone, as its pooler gives it
        assert (whole.head.in_features, tower.head.in_features) == (32, 16)


TORCHVISION = {
    "resnet.embedder.embedder.convolution": "conv1",
    "resnet.embedder.embedder.normalization": "bn1",
    "shortcut.convolution": "downsample.0",
    "shortcut.normalization": "downsample.1",
    "classifier.1": "fc",
    **{f"layer.{number}.convolution": f"conv{number + 1}" for number in range(3)},
    **{f"layer.{number}.normalization": f"bn{number + 1}" for number in range(3)},
    **{f"resnet.encoder.stages.{stage}.layers": f"layer{stage + 1}" for stage in range(2)},
}


def test_a_bottleneck_is_read_under_torchvisions_names(tmp_path):
    def rename(key):
        for theirs, other in TORCHVISION.items():
            key = key.replace(theirs, other)
        return key

    folder = variant("resnet", tmp_path / "timm", rename=rename)
    assert "layer1.1.conv3.weight" in load_file(folder / "model.safetensors")
    model = loaded(folder)
    assert model.config.names == "timm"
    assert_same(model, loaded(HUB / "resnet"))


def split_up(folder, tmp_path):
    """The folder with its tensors in two files and an index."""
    other = variant(folder, tmp_path / "shards")
    tensors = load_file(other / "model.safetensors")
    (other / "model.safetensors").unlink()
    names = dict(zip(sorted(tensors), ["a.safetensors", "b.safetensors"] * len(tensors), strict=False))
    for file in ("a.safetensors", "b.safetensors"):
        save_file({key: tensors[key] for key in tensors if names[key] == file}, other / file)
    (other / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return other


def test_weights_in_several_files_are_those_in_one(tmp_path):
    folder = split_up("convnext", tmp_path)
    assert weights_of(folder) == folder / INDEX
    assert_same(loaded(folder), loaded(HUB / "convnext"))
    before = weights_checksum(folder / INDEX)
    tensors = load_file(folder / "b.safetensors")
    save_file({**tensors, min(tensors): tensors[min(tensors)] + 1}, folder / "b.safetensors")
    assert weights_checksum(folder / INDEX) != before


def test_an_index_is_not_believed(tmp_path):
    folder = split_up("convnext", tmp_path)
    index = json.loads((folder / INDEX).read_text())["weight_map"]

    def refused(match, content):
        (folder / INDEX).write_text(content if isinstance(content, str) else json.dumps({"weight_map": content}))
        with pytest.raises(InputError, match=match):
            hub_config(folder, folder / INDEX)

    refused("is no JSON", "{")
    refused("has no weight_map", "[]")
    refused("has no weight_map", {"a": 3})
    refused("names /etc/passwd, which is not beside it", {**index, "a": "/etc/passwd"})
    refused(r"names \.\./model\.safetensors, which is not", {**index, "a": "../model.safetensors"})
    refused("names tensors that its files lack: extra", {**index, "extra": "a.safetensors"})
    refused("none.safetensors cannot be read", {**index, "extra": "none.safetensors"})


def test_checksum_of_weights(tmp_path):
    (tmp_path / "w").write_bytes(b"abc")
    assert weights_checksum(tmp_path / "w").startswith("ba7816bf")
    with pytest.raises(InputError, match="weights"):
        weights_checksum(tmp_path / "missing")


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_keys_of_a_wrapped_network_get_a_hint(wrapper, tmp_path):
    folder = variant("vit", tmp_path / "wrapped", rename=lambda key: wrapper + key)
    with pytest.raises(
        InputError, match=rf"the keys of .* begin with '{wrapper}': .*; save model\.\w+\.state_dict\(\)"
    ):
        loaded(folder)


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path):
    for kind in ("swin", None, 3):
        folder = variant("vit", tmp_path / str(kind), model_type=kind)
        with pytest.raises(InputError) as caught:
            loaded(folder)
        message = str(caught.value)
        assert message.startswith(
            f"model: {folder}/config.json is of the architecture {str(kind)!r}, which is unknown; "
        )
        assert all(f" {family}," in message for family in FAMILIES)
        assert "of timm resnet18" in message
        assert "\n" not in message


BROKEN = [
    ("vit", "config.json", {"hidden_size": "16"}, "has '16' as hidden_size, which needs 1 to"),
    ("vit", "config.json", {"num_hidden_layers": 10**9}, "as num_hidden_layers, which needs 1 to 256"),
    ("vit", "config.json", {"num_attention_heads": 3}, "as num_attention_heads, which needs a divisor of hidden_size"),
    ("vit", "config.json", {"hidden_act": "mish"}, "has 'mish' as hidden_act, which needs gelu or"),
    ("vit", "config.json", {"image_size": 32}, "takes images of 32 pixels, and preprocessor_config.json makes 16"),
    ("vit", "config.json", {"num_channels": 1}, "has 1 as num_channels, which needs 3"),
    ("dinov2", "config.json", {"use_swiglu_ffn": True}, "as use_swiglu_ffn, which needs false"),
    ("clip", "config.json", {"vision_config": [1]}, "as vision_config, which needs an object"),
    ("resnet", "config.json", {"depths": [1]}, "as depths, which needs as many numbers as hidden_sizes has"),
    ("resnet", "config.json", {"hidden_act": "gelu"}, "has 'gelu' as hidden_act, which needs relu"),
    ("efficientnet", "config.json", {"strides": [1, 2, 3]}, "as strides, which needs 1 or 2 for every stage"),
    ("efficientnet", "config.json", {"pooling_type": "max"}, "as pooling_type, which needs mean"),
    ("vit", "preprocessor_config.json", {"image_mean": [0.5]}, "as image_mean, which needs 3 numbers from 0"),
    ("vit", "preprocessor_config.json", {"image_std": [0, 1, 1]}, "divides pixels by zero"),
    ("vit", "preprocessor_config.json", {"resample": 9}, "has 9 as resample, which needs 0 to 5"),
    ("vit", "preprocessor_config.json", {"size": {"height": 16, "width": 8}}, "as size, which needs two sides alike"),
    ("vit", "preprocessor_config.json", {"do_resize": False}, "as do_resize, which needs true"),
    ("deit", "preprocessor_config.json", {"crop_size": 99}, "cuts 99 pixels out of 19"),
    ("clip", "preprocessor_config.json", {"do_center_crop": False}, "makes images that are not square"),
    (
        "vit",
        "preprocessor_config.json",
        {"image_processor_type": "Sam"},
        "names 'Sam', which is unknown; known are ViTI",
    ),
]


@pytest.mark.parametrize(("name", "file", "fields", "told"), BROKEN)
def test_what_a_file_says_wrongly_is_named(name, file, fields, told, tmp_path):
    folder = variant(name, tmp_path / "broken")
    edit(folder / file, **fields)
    with pytest.raises(InputError) as caught:
        loaded(folder)
    message = str(caught.value)
    assert message.startswith("model: ")
    assert file in message
    assert told in message


def test_what_is_missing_is_named(tmp_path):
    folder = variant("vit", tmp_path / "folder")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json cannot be read .*: copy it from the publisher"):
        loaded(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config\.json is no JSON object"):
        loaded(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has only pytorch_model\.bin, a pickle, which can run anything"):
        loaded(folder)


OLD = {  # as files of 2021 and 2022 have them
    "vit": ({"size": 16, "resample": 2}, (16, 16, True, "bilinear")),
    "deit": (
        {"size": 19, "crop_size": 16, "feature_extractor_type": "DeiTFeatureExtractor"},
        (16, 19, True, "bicubic"),
    ),
    "clip": ({"size": 17, "crop_size": 16, "resample": 3}, (16, 17, False, "bicubic")),
    "resnet": (
        {"size": 30, "crop_pct": None, "feature_extractor_type": "ConvNextFeatureExtractor"},
        (30, 34, False, "bilinear"),
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_sizes_of_old_files_mean_what_they_meant(name, tmp_path):
    fields, expected = OLD[name]
    folder = variant(name, tmp_path / "old")
    edit(folder / "preprocessor_config.json", **{"image_processor_type": None, **fields})
    of = hub_config(folder, weights_of(folder)).preprocess
    assert (of.size, of.fitting.side, of.fitting.square, of.fitting.interpolation) == expected


def shapes_of(config):
    return nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))


def parameters(config):
    """Of a transformer of any depth, without building more than two blocks."""
    one, two = (
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes_of(dataclasses.replace(config, depth=depth)))))
        for depth in (1, 2)
    )
    return one + (config.depth - 1) * (two - one)


def described(**shapes):
    return {key: Described("F32", shape, 0, 0) for key, shape in shapes.items()}


def timm(architecture, size=224, **fields):
    pretrained = {"input_size": [3, size, size], "crop_pct": 0.95, "interpolation": "bicubic"}
    pretrained |= {"mean": [0.5] * 3, "std": [0.25] * 3}
    return Fields({"architecture": architecture, "pretrained_cfg": pretrained, **fields}, "config.json")


def test_networks_of_timm_have_their_published_sizes():
    resnet = timm_network(timm("resnet50.a1_in1k"), described(**{"fc.weight": (1000, 2048)}))
    model = shapes_of(resnet)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == 25_557_032
    own = next(key_map for key_map in resnet.key_maps if key_map.name == resnet.names == "timm")
    paths = sorted(path for entry in own.entries(resnet) for path in entry.paths)
    assert paths == sorted(path for path, _ in nnx.to_flat_state(nnx.state(model)))
    assert (resnet.preprocess.size, resnet.preprocess.fitting.side) == (224, 235)
    np.testing.assert_allclose(resnet.preprocess.mean, [127.5] * 3)
    small = timm_network(timm("vit_small_patch16_224.augreg_in1k"), described(**{"head.weight": (1000, 384)}))
    assert parameters(small) == 22_050_664
    assert (small.names, small.norm_epsilon) == ("timm", 1e-6)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (timm("resnet50d"), r"is of the architecture 'resnet50d', which is unknown; of timm, known are resnet18"),
        (timm("resnet50", model_args={"output_stride": 8}), "as model_args, which needs nothing"),
        (timm("vit_base_patch16_384"), "takes images of 384 pixels, and pretrained_cfg makes 224"),
    ],
)
def test_other_networks_of_timm_are_refused(fields, told):
    with pytest.raises(InputError, match=told):
        timm_network(fields, {})


def test_towers_have_their_published_sizes():
    dino, clip = (
        hub_transformer(Fields({"model_type": family, **fields}, "config.json"), {}, UNIT)
        for family, fields in (("dinov2", {"image_size": 518}), ("clip_vision_model", {"intermediate_size": 3072}))
    )
    # DINOv2's 86,580,480 have a token for patches that are hidden, CLIP's 87,849,216 a projection beside the tower.
    assert (parameters(dino), parameters(clip)) == (86_580_480 - 768, 87_849_216 - 768 * 512)


def test_positions_are_resized_as_pytorch_does():
    same = bicubic_matrix(5, 5)
    np.testing.assert_allclose(same, np.eye(5), atol=1e-12)
    matrix = bicubic_matrix(4, 8)
    np.testing.assert_allclose(matrix.sum(1), 1)
    # At a quarter of a step from a sample: Keys' kernel with -0.75, by hand.
    np.testing.assert_allclose(matrix[3], [-0.10546875, 0.87890625, 0.26171875, -0.03515625], atol=1e-12)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1])


def test_a_name_goes_before_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = variant("vit", tmp_path / "resnet18")
    assert type(config_of("resnet18", weights_of(folder))).__name__ == "ResNetConfig"
    assert type(config_of("./resnet18", weights_of(folder))).__name__ == "HubTransformerConfig"
    assert checkpoint_folder("resnet18") is None
    assert checkpoint_folder("./resnet18") == Path("resnet18")


def test_a_trained_block_of_half_precision_weights_is_read(tmp_path):
    folder = variant("vit", tmp_path / "half")
    tensors = load_file(folder / "model.safetensors")
    save_file({key: value.astype(jnp.bfloat16) for key, value in tensors.items()}, folder / "model.safetensors")
    assert loaded(folder).parts["block0"].up.kernel[...].dtype == jnp.float32
