"""config.json and preprocessor_config.json: in the publisher's words, with the network's sizes."""

from dataclasses import replace

from networks.small_networks import SMALL

from cimm_jax.networks import by_name
from cimm_jax.networks.hub_files import model_config, preprocessor_config


def test_networks_with_transformers_names_are_transformers_networks():
    resnet = model_config(by_name("resnet18"), "resnet18", 512)
    assert (resnet["model_type"], resnet["architectures"]) == ("resnet", ["ResNetForImageClassification"])
    assert (resnet["depths"], resnet["hidden_sizes"], resnet["embedding_size"]) == ([2] * 4, [64, 128, 256, 512], 64)
    assert len(resnet["id2label"]) == len(resnet["label2id"]) == 1000
    vit = model_config(SMALL["vit_transformers"], "small", 16)
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    assert sizes.items() <= vit.items()
    assert (vit["model_type"], vit["layer_norm_eps"], vit["num_attention_heads"]) == ("vit", 1e-12, 2)


def test_others_are_described_as_timm_does():
    found = model_config(replace(by_name("vit_b16"), names="timm"), "vit_b16", 768)
    assert (found["architecture"], found["num_classes"], found["num_features"]) == ("vit_base_patch16_224", 1000, 768)
    assert found["pretrained_cfg"]["mean"] == [0.5] * 3
    lite = model_config(by_name("efficientnet_lite0"), "efficientnet_lite0", 1280)
    assert lite["pretrained_cfg"]["input_size"] == [3, 224, 224]


def test_mean_and_deviation_are_of_unit_pixels_as_they_were_published():
    found = preprocessor_config(by_name("resnet18").preprocess)
    assert (found["image_mean"], found["image_std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (found["size"], found["crop_pct"], found["resample"]) == ({"shortest_edge": 224}, 0.875, 3)
