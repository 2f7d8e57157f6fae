"""What tests run on several devices, in a process of its own or in several: all work that is spread equals that of one device.

spread_program.py FOLDER [COORDINATOR PROCESSES ID]
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from networks.small_networks import NETWORK, filled
from rows_program import check_rows, same

from cimm_jax import (
    SplitPair,
    Task,
    TaskPair,
    attacks,
    covariance,
    methods,
    stack_pairs,
)
from cimm_jax.attacks import Target
from cimm_jax.data.image_set import ArrayPixels, ImageSet
from cimm_jax.networks import functional
from cimm_jax.networks.activation_cache import cached_outputs
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.tails import tail_features
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.spreading import spread_over

jax.config.update("jax_enable_x64", True)
folder, *cluster = sys.argv[1:]
if cluster:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(cluster[0], int(cluster[1]), int(cluster[2]))

CUT = "layer3.0"
rng = np.random.default_rng(0)
mesh = jax.make_mesh((8,), ("data",))
pairs = [
    TaskPair(*(Task(rng.standard_normal((20, 6)), np.sign(rng.standard_normal(20))) for _ in range(2)))
    for _ in range(3)
]
split = SplitPair(*[stack_pairs(pairs)] * 2)
keys = jax.random.split(jax.random.key(0), 2)
operators = attacks.standard_operators(("random start + adam", "newton"), steps=3, rates=2)
images = ImageSet(
    ArrayPixels(rng.integers(0, 256, (11, 16, 16, 3)).astype(np.uint8)), np.zeros(11, np.int64), ("a",), "a"
)
model = filled(NETWORK)
parts = functional.split(model, CUT)
pixels = rng.standard_normal((24, 16, 16, 3)).astype(np.float32)
activations = Labelled(np.asarray(functional.trunk(parts, jnp.asarray(pixels), CUT)), np.arange(24) % 3)


def sweeps():
    found = methods.sweep({"algorithm1": methods.algorithm1()}, split, keys=keys, steps=3, chunks=2)
    attacked = attacks.sweep(operators, {"none": Target(*pairs[0])}, keys=keys)
    return found, [each.trace for each in attacked.values()]


def networks(name):
    settings = TrainingSettings(epochs=1, batch_rows=8, learning_rate=0.01)
    penalties = (Penalty(lambda batch: covariance(batch.harmful.x).mean(), None),)
    trained = train_tail(parts, CUT, activations, activations, penalties=penalties, settings=settings)
    own = Path(folder) / f"{name}{jax.process_index()}"
    cached = cached_outputs(own, model, images, weights_sha256="w")
    behind = tail_features(trained.parts, activations.x[:11], CUT)
    return trained.parts.tail, trained.parts.head, trained.losses, cached, behind


check_rows(AxisType.Explicit, AxisType.Auto)
swept, learned = sweeps(), networks("alone")
with spread_over(mesh):
    same(sweeps(), swept, 1e-12)
    same(networks("spread"), learned, 1e-5)
print("equal")
