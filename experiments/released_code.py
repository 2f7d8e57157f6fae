"""The paper's methods as the released code runs them, for comparison with published figures only.

Written from its behaviour (commit b749964), where it departs from the paper:

* theta starts at U(-1/sqrt(d), 1/sqrt(d)), PyTorch's default, not at the identity; Adam with a constant rate;
* Hessians are those of a batch of 64 rows, S = F^T F with F = X theta; p and k are both `size`, the last axis of the raw
  input (28 for images, 79 for houses);
* 1e-6 I is added to S and sigma_min is the smallest eigenvalue above 1e-6: with fewer rows than features that is a null
  direction of about 1e-6, whose square is lost beside ||S||_F^2, so that R_ill is 1 / (||S||_F^2 / (2 size)) here;
* the preconditioner multiplies by (X^T X + ridge I)^-1 from the side of the features' outputs, where the paper's K^-1 would
  multiply from the side of the inputs.

Its bias and its gradient are left out. In `Method`'s layout theta is the transpose of PyTorch's weight.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from cimm_jax.methods import Info, Method
from cimm_jax.numerics import losses
from cimm_jax.tasks import TaskPair

FLOOR = 1e-6


class Settings(NamedTuple):
    """What the released configuration files set.

    Attributes:
      lambda_primary: weight of R_well.
      lambda_harmful: weight of R_ill.
      ridge_harmful: ridge of the harmful preconditioner; the primary one's is 1.
      learning_rate: of Adam.
      size: p and k.
      loss: primary loss.
    """

    lambda_primary: float
    lambda_harmful: float
    ridge_harmful: float
    learning_rate: float
    size: int
    loss: losses.Loss


HOUSE = Settings(100.0, 1e7, 1.0, 5e-3, 79, lambda scores, targets: 2 * losses.squared(scores, targets))
MNIST = Settings(1.0, 5e7, 1e-7, 1e-3, 28, losses.logistic)


class State(NamedTuple):
    """Extractor of shape (d, d), primary head of shape (d,), and the optimizer's state."""

    theta: jax.Array
    omega: jax.Array
    optimizer: Any


Penalty = Callable[[tuple[jax.Array, jax.Array], TaskPair], tuple[jax.Array, jax.Array]]
"""(features of both tasks, batch) -> what is added to the gradients with respect to the features, in X^T C of that of theta."""


def algorithm1(settings: Settings) -> Method:
    """Both regularizers."""

    def penalty(features, batch):
        return _well(features[0], batch.primary.x, settings), _ill(features[1], batch.harmful.x, settings)

    return _method(settings, penalty)


def ill_only(settings: Settings) -> Method:
    """The harmful regularizer alone."""

    def penalty(features, batch):
        return jnp.zeros_like(features[0]), _ill(features[1], batch.harmful.x, settings)

    return _method(settings, penalty)


def opt_kappa(settings: Settings, weight: float = 1e-5) -> Method:
    """1 / log(log kappa(S_H)) + weight log(log kappa(S_P)), as its `kappa_loss` has it: the logarithm is taken twice."""

    def objective(features: tuple[jax.Array, jax.Array]) -> jax.Array:
        primary, harmful = (jnp.log(_log_floored_kappa(f)) for f in features)
        return 1 / harmful + weight * primary

    return _method(settings, lambda features, batch: jax.grad(objective)(features))


def _method(settings: Settings, penalty: Penalty) -> Method:
    optimizer = optax.adam(settings.learning_rate)

    def init(key: jax.Array, pair: TaskPair) -> State:
        d, dtype = pair.primary.x.shape[-1], pair.primary.x.dtype
        theta_key, omega_key = jax.random.split(key)
        theta = jax.random.uniform(theta_key, (d, d), dtype, -(d**-0.5), d**-0.5)
        omega = jax.random.normal(omega_key, (d,), dtype)
        return State(theta, omega, optimizer.init((theta, omega)))

    def primary_loss(features: jax.Array, omega: jax.Array, targets: jax.Array) -> jax.Array:
        return settings.loss(features @ omega, targets)

    def step(state: State, batch: TaskPair) -> tuple[State, Info]:
        # One product of theta's size for the features of both tasks, and one for the gradient.
        x = jnp.concatenate([batch.primary.x, batch.harmful.x])
        both = x @ state.theta
        features = (both[: len(batch.primary.x)], both[len(batch.primary.x) :])
        loss_and_gradients = jax.value_and_grad(primary_loss, argnums=(0, 1))
        value, (g_features, g_omega) = loss_and_gradients(features[0], state.omega, batch.primary.y)
        well, ill = penalty(features, batch)
        gradient = (x.T @ jnp.concatenate([g_features + well, ill]), g_omega)
        params = (state.theta, state.omega)
        updates, inner = optimizer.update(gradient, state.optimizer, params)
        theta, omega = cast(tuple[jax.Array, jax.Array], optax.apply_updates(params, updates))
        kappa_primary, kappa_harmful = (jnp.exp(_log_floored_kappa(f)) for f in features)
        return State(theta, omega, inner), Info(value, kappa_primary, kappa_harmful, jnp.ones((), bool))

    return Method(init, step, lambda state: state.theta)


def _well(features: jax.Array, x: jax.Array, settings: Settings) -> jax.Array:
    """Of lambda (sigma_1^2 / 2 - ||S||_F^2 / (2 p)), preconditioned; F v_1 v_1^T = u_1 u_1^T F."""
    gram = features @ features.T
    values, vectors = jnp.linalg.eigh(gram)
    top = vectors[:, -1]
    cotangent = 2 * (values[-1] * jnp.outer(top, top @ features) - gram @ features / settings.size)
    return settings.lambda_primary * _preconditioned(x, cotangent, 1.0)


def _ill(features: jax.Array, x: jax.Array, settings: Settings) -> jax.Array:
    """Of lambda / (||S||_F^2 / (2 k)), preconditioned."""
    gram = features @ features.T
    denominator = jnp.sum(gram**2) / (2 * settings.size)
    cotangent = -2 * gram @ features / (settings.size * denominator**2)
    return settings.lambda_harmful * _preconditioned(x, cotangent, settings.ridge_harmful)


def _preconditioned(x: jax.Array, cotangent: jax.Array, ridge: float) -> jax.Array:
    """C (X^T X + ridge I)^-1 = (C - C X^T (X X^T + ridge I)^-1 X) / ridge, with X of B < d rows.

    X^T of it is the transpose of what multiplies C^T X from the left.
    """
    # Not a Cholesky solve: on CPU, inside a loop, its triangular solves cost as much as the rest of the step.
    values, vectors = jnp.linalg.eigh(x @ x.T)
    inner = ((cotangent @ x.T) @ vectors / (values + ridge)[None, :]) @ vectors.T
    return (cotangent - inner @ x) / ridge


def _log_floored_kappa(features: jax.Array) -> jax.Array:
    """Log of sigma_max / sigma_min with 1e-6 added, of a rank-deficient S: its sigma_min is the floor itself."""
    return jnp.log(jnp.linalg.eigvalsh(features @ features.T)[-1] + FLOOR) - jnp.log(FLOOR)
