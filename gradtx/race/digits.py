"""The race on real images: a small network learns scikit-learn's handwritten digits."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.race import entrants
from gradtx.race.errors import UsageError, needs_extra
from gradtx.race.loop import Loop

__all__ = ["TARGET_ACCURACY", "Digits", "Learned", "accuracy", "cross_entropy", "load", "network", "train"]

LAYERS = (64, 64, 10)
TARGET_ACCURACY = 0.95

Params = list[dict[str, jax.Array]]


# Data


class Digits(NamedTuple):
    """Standardised 8 × 8 images as vectors, and their digits, split once for training and testing."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(seed: int = 0) -> Digits:
    """1,437 training and 360 test images, stratified by digit, standardised with the training images' statistics."""
    with needs_extra():
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    source: Any = load_digits()
    parts: Any = train_test_split(source.data, source.target, test_size=0.2, stratify=source.target, random_state=seed)
    images, test_images, labels, test_labels = parts
    mean, deviation = images.mean(axis=0), images.std(axis=0)
    deviation[deviation == 0] = 1  # pixels that are always white
    images, test_images = (((x - mean) / deviation).astype(np.float32) for x in (images, test_images))
    return Digits(images, labels.astype(np.int32), test_images, test_labels.astype(np.int32))


def batches(examples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The indices of the examples in an epoch's minibatches, (steps, batch_size), in an order set by seed and epoch.

    Examples that do not fill a last batch are left out of this epoch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    steps = examples // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


# Network


def network(seed: int = 0, layers: tuple[int, ...] = LAYERS) -> Params:
    """Weights with He initialisation, √(2/n) times normal, and zero biases."""
    keys = jax.random.split(jax.random.key(seed), len(layers) - 1)
    return [
        {"kernel": jax.random.normal(key, (n, m)) * math.sqrt(2 / n), "bias": jnp.zeros(m)}
        for key, n, m in zip(keys, layers[:-1], layers[1:], strict=True)
    ]


def _logits(params: Params, images: Any) -> jax.Array:
    *hidden, last = params
    for layer in hidden:
        images = jax.nn.relu(images @ layer["kernel"] + layer["bias"])
    return images @ last["kernel"] + last["bias"]


def cross_entropy(params: Params, images: Any, labels: Any) -> jax.Array:
    """The mean softmax cross-entropy of the labels."""
    logits = _logits(params, images)
    right = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


def accuracy(params: Params, images: Any, labels: Any) -> jax.Array:
    """The share of images whose most likely digit is the right one."""
    return jnp.mean(jnp.argmax(_logits(params, images), axis=-1) == labels)


# The race


@dataclass(frozen=True)
class Learned:
    """The results of one optimizer at each learning rate. Curves are measured before training and after every epoch."""

    name: str
    rates: tuple[float, ...]
    steps: np.ndarray  # (epochs + 1)
    loss: np.ndarray  # (rates, epochs + 1), over all training images
    accuracy: np.ndarray  # (rates, epochs + 1), over the test images
    state_bytes: float  # per parameter
    compile_seconds: float
    run_seconds: float

    @property
    def diverged(self) -> np.ndarray:
        """For each learning rate, whether the final loss is infinite or NaN."""
        return ~np.isfinite(self.loss[:, -1])

    @property
    def best(self) -> int:
        """The learning rate with the lowest final training loss, by index; the test images play no part."""
        return int(np.argmin(np.where(self.diverged, np.inf, self.loss[:, -1])))

    def steps_to_target(self, rate: int) -> int | None:
        """The steps after which test accuracy was first measured to be at least 95 %, or None."""
        reached = np.flatnonzero(self.accuracy[rate] >= TARGET_ACCURACY)
        return int(self.steps[reached[0]]) if reached.size else None


def resolve_batch_size(given: int | None, examples: int) -> int:
    """The batch size that was asked for; None is the whole training set.

    Raises:
      UsageError: it is larger than the training set.
    """
    if given is not None and given > examples:
        raise UsageError(f"--batch-size {given} is larger than the training set ({examples} images); try full")
    return examples if given is None else given


def train(
    names: list[str],
    rates_of: Callable[[str], tuple[float, ...]],
    data: Digits,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Iterator[tuple[str, Learned | None]]:
    """Train the same network on the same minibatches with each optimizer.

    Yields:
      (name, None) after every epoch, (name, its results) after the last.
    """
    params = network(seed)
    measure = _measure(data)
    for name in names:
        rates = rates_of(name)
        loop = Loop([entrants.make(name, rate) for rate in rates], _loss(data), params)
        measured = [measure(loop.eval_params())]
        steps = len(data.images) // batch_size
        for epoch in range(epochs):
            loop.run(batches(len(data.images), batch_size, seed, epoch))
            measured.append(measure(loop.eval_params()))
            yield name, None
        loss, accuracy = np.stack(measured, axis=-1)
        yield (
            name,
            Learned(
                name,
                rates,
                steps * np.arange(epochs + 1),
                loss,
                accuracy,
                entrants.state_bytes(entrants.make(name), params),
                loop.compile_seconds,
                loop.run_seconds,
            ),
        )


def _loss(data: Digits) -> Callable[[Params, Any], jax.Array]:
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    return lambda params, batch: cross_entropy(params, images[batch], labels[batch])


def _measure(data: Digits) -> Callable[[Params], np.ndarray]:
    """A function from parameters with a leading axis to (training loss, test accuracy), each along that axis."""

    @jax.jit
    @jax.vmap
    def measure(params: Params) -> tuple[jax.Array, jax.Array]:
        loss = cross_entropy(params, data.images, data.labels)
        return loss, accuracy(params, data.test_images, data.test_labels)

    return lambda params: np.stack([np.asarray(x, float) for x in measure(params)])
