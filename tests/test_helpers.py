"""The tests' own helpers can fail."""

import jax.numpy as jnp
import pytest

from helpers import assert_close, assert_same_form


@pytest.mark.parametrize("other", [{"a": jnp.ones(2) * 1.001}, {"b": jnp.ones(2)}, {"a": jnp.full(2, jnp.nan)}])
def test_assert_close_fails(other):
    with pytest.raises(AssertionError):
        assert_close({"a": jnp.ones(2)}, other)


@pytest.mark.parametrize("other", [jnp.ones(2, jnp.bfloat16), jnp.ones(3), jnp.asarray(1.0), (jnp.ones(2),)])
def test_assert_same_form_fails(other):
    with pytest.raises(AssertionError):
        assert_same_form(jnp.ones(2), other)


def test_assert_same_form_sees_weak_types():
    with pytest.raises(AssertionError):
        assert_same_form(jnp.asarray(1.0), jnp.asarray(1.0, jnp.float32))
