"""The standard fine-tuners of a network, and who is left out."""

import dataclasses

import pytest
from networks.small_networks import NETWORK, SMALL, filled

from cimm_jax.attacks import fine_tuners
from cimm_jax.attacks.fine_tuners import RANKS, SOPHON, last_block, standard_fine_tuners
from cimm_jax.networks.preprocess import LARGE


@pytest.mark.parametrize(
    ("name", "cut"),
    [("resnet_cifar", "layer3.0"), ("vit_transformers", "block1"), ("efficientnet", "top"), ("linear", "linear")],
)
def test_the_last_block_is_the_last_with_a_kernel(name, cut):
    assert last_block(filled(SMALL[name])) == cut


def test_ranks_above_the_widest_layer_are_left_out_and_told():
    network = filled(NETWORK)
    attackers, left_out = standard_fine_tuners(network, classes=3)
    assert [attacker.rank for attacker in attackers if attacker.rank] == [1, 4]
    assert left_out == tuple(f"LoRA rank {rank}: the widest layer has full rank 12" for rank in (16, 64))
    assert len({attacker.name for attacker in attackers}) == len(attackers)
    assert {attacker.cut for attacker in attackers} == {None, "layer3.0"}


def test_large_images_go_through_the_last_blocks_only():
    config = dataclasses.replace(NETWORK, preprocess=dataclasses.replace(NETWORK.preprocess, size=LARGE + 1))
    attackers, left_out = standard_fine_tuners(filled(config), classes=3)
    assert {attacker.cut for attacker in attackers} == {"layer1.0", "layer3.0"}
    assert [attacker.rank for attacker in attackers] == [None, 1, 4]
    assert sum("65 pixels" in told for told in left_out) == 4


def test_of_a_network_that_is_a_function_only_all_weights_are_trained(monkeypatch):
    monkeypatch.setattr(fine_tuners, "widths", lambda params: {})
    attackers, left_out = standard_fine_tuners(filled(NETWORK), classes=3)
    assert {(attacker.cut, attacker.rank) for attacker in attackers} == {(None, None)}
    assert len(attackers) == 4
    assert left_out == tuple(f"LoRA rank {rank}: the widest layer has full rank 0" for rank in RANKS)


def test_a_published_head_with_too_few_outputs_is_not_kept():
    network = filled(NETWORK)
    kept = [{a.head for a in standard_fine_tuners(network, classes=classes).attackers} for classes in (3, 4)]
    assert kept == [{"new", "solved", "kept"}, {"new", "solved"}]
    told = standard_fine_tuners(network, classes=4).left_out[-1]
    assert told == "all weights, published head, momentum: it has 3 outputs for 4 classes"


def test_sophons_attacker_is_the_papers():
    published = dataclasses.replace(SOPHON, name="")
    assert (published.rates, published.batch_size, published.optimizer) == ((1e-4,), 200, "momentum")
    assert (published.steps(1000, 7), published.steps(50, 7)) == (100, 5), "20 epochs"
    assert dataclasses.replace(published, epochs=None).steps(1000, 7) == 7
    assert (published.cut, published.rank, published.head, published.schedule) == (None, None, "new", "constant")
