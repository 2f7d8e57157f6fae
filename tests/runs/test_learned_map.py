"""Blocks that learn a map: what the map did, the trained features do themselves, and the published outputs stay."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks.small_networks import filled

from cimm_jax import methods
from cimm_jax.class_targets import centred, one_hot
from cimm_jax.closed_form.explained_share import linear_share
from cimm_jax.networks import functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.head import head_of, with_head
from cimm_jax.networks.perceptron import PerceptronConfig
from cimm_jax.networks.tails import tail_features
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics.spectra import PseudoInverse, feature_condition_number
from cimm_jax.runs.learned_map import to_learn
from cimm_jax.tasks import Task, TaskPair

pytestmark = pytest.mark.usefixtures("standard_promotion")

CUT, CLASSES = "layer0", 3
SETTINGS = TrainingSettings(
    steps=600, batch_rows=96, harmful_rows=96, learning_rate=0.05, distillation=8.0, longest_gradient=1.0
)


class Tiny:
    """A perceptron of 12 features, two tasks, each of classes, and what they are before and after training."""

    def __init__(self):
        network = filled(PerceptronConfig(10, (32, 12), CLASSES))
        self.network, self.parts, self.head = network, functional.split(network, CUT), head_of(network)
        rng = np.random.default_rng(0)
        self.tasks = []
        for _ in range(2):
            labels = np.arange(192) % CLASSES
            x = rng.normal(size=(CLASSES, 10))[labels] + 0.7 * rng.normal(size=(192, 10))
            self.tasks.append(Labelled(np.float32(x), labels))
        said = np.asarray(functional.logits(self.parts, self.tasks[0].x)).argmax(1)
        self.tasks[0] = self.tasks[0]._replace(labels=said)
        self.features = self.of(self.parts)

    def of(self, parts):
        return [tail_features(parts, task.x, CUT) for task in self.tasks]

    def pair(self):
        targets = [centred(one_hot(task.labels, CLASSES)) for task in self.tasks]
        return TaskPair(*(Task(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(self.features, targets, strict=True)))

    def learned(self, method):
        theta = methods.immunize(method, self.pair()).theta
        aim = to_learn(theta, *self.features, self.head)
        begun = functional.split(with_head(self.network, aim.head), CUT)
        start = (begun.tail, begun.head)
        given = {"penalties": aim.penalties, "targets": aim.targets, "start": start}
        trained = train_tail(self.parts, CUT, *self.tasks, **given, settings=SETTINGS)
        return np.asarray(theta), aim.targets, trained.parts


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


def kappas(features):
    return [float(feature_condition_number(jnp.asarray(x - x.mean(0)), PseudoInverse()).kappa) for x in features]


@pytest.mark.slow
def test_blocks_that_learn_pencil_have_its_condition_numbers_within_a_factor(tiny):
    theta, targets, parts = tiny.learned(methods.pencil(ridge=0.1, budget=10.0))
    published, wanted, trained = map(kappas, (tiny.features, [x @ theta for x in tiny.features], tiny.of(parts)))
    assert published[0] > 3 * wanted[0]
    for task in (0, 1):
        assert wanted[task] / 1.5 < trained[task] < 1.5 * wanted[task]
    for learned, target in zip(tiny.of(parts), targets, strict=True):
        assert ((learned - target) ** 2).sum() < 0.2 * ((target - target.mean(0)) ** 2).sum()
    assert trained[1] / trained[0] > 3 * published[1] / published[0]


def test_blocks_that_learn_erase_cannot_be_read_by_linear_heads_and_keep_the_outputs(tiny):
    theta, _, parts = tiny.learned(methods.erase())
    before, after = tiny.features[1], tiny.of(parts)[1]
    shares = [float(linear_share(jnp.asarray(x), tiny.pair().harmful.y)) for x in (before, after)]
    assert shares[0] > 0.4
    assert shares[1] < 0.1
    dead = after.std(0) == 0
    assert dead.sum() == len(theta) - np.linalg.matrix_rank(theta), "what is not wanted to vary is off for good"
    said = np.asarray(functional.logits(parts, tiny.tasks[0].x)).argmax(1)
    assert np.mean(said == tiny.tasks[0].labels) > 0.9
