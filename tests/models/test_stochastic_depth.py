"""Stochastic depth: which blocks are dropped, how often, and what that does to outputs and statistics."""

import itertools

import jax
import numpy as np
import pytest
from flax import nnx

from ror_jax.models.surgery import get_blocks, set_blocks

SMALL = dict(blocks_per_group=(2, 2), widths=(2, 4), levels=3)
P_LAST = 0.4
SURVIVAL = np.array([1 - block / 4 * (1 - P_LAST) for block in (1, 2, 3, 4)])  # p_l = 1 - l/L (1 - p_L)
IMAGES = np.random.default_rng(1).uniform(-2, 2, (2, 8, 8, 3)).astype(np.float32)
STEPS = 2000


def times(model, factors):
    """The same network with F of block l multiplied by factors[l]: F is linear in its last layer."""
    blocks = get_blocks(model.backbone)
    for block, factor in zip(blocks, factors, strict=True):
        last = block["body"]["convs" if model.backbone.config.preactivation else "norms"][1]
        for kind in {"kernel", "scale", "bias"} & set(last):
            last[kind] = last[kind] * factor
    set_blocks(model.backbone, blocks)
    return model


def by_path(tree):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.fixture(scope="module")
def steps(random_network):
    """Two thousand training passes from one state, a key each: outputs, and where each array of statistics moved.

    `moved["block2"]` has a row [STEPS] for each array of statistics in block 2's F, `moved["others"]` the rest.
    """
    graph, params, statistics = random_network("cifar_resnet8", survival=P_LAST, **SMALL)

    def step(key):
        model = nnx.merge(graph, params, statistics)
        outputs = model(IMAGES, train=True, rngs=nnx.Rngs(key))["label"]
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), get_blocks(model.backbone)

    keys = jax.random.split(jax.random.key(0), STEPS)
    run = jax.jit(lambda keys: jax.lax.map(step, keys))
    outputs, after, blocks = run(keys)

    def moves(old, new, wanted):
        old, new = by_path(old), by_path(new)
        return np.array([(new[path] != old[path]).reshape(STEPS, -1).any(1) for path in new if wanted(path)])

    moved = {"others": moves(statistics, after, lambda path: "['body']" not in path)}
    for index, old in enumerate(get_blocks(nnx.merge(graph, params, statistics).backbone)):
        wanted = lambda path: "['body']" in path and path.endswith(("['mean']", "['var']"))  # noqa: E731
        moved[f"block{index}"] = moves(old, blocks[index], wanted)
    return run, keys, np.asarray(outputs), moved


@pytest.fixture(scope="module")
def coins(steps):
    """Which blocks survived, [STEPS, 4]."""
    return np.stack([steps[3][f"block{index}"][0] for index in range(4)], 1)


def test_each_pattern_of_coins_is_as_frequent_as_it_should_be(coins):
    """Blocks survive independently, each with its p_l: all sixteen patterns have their binomial frequencies."""
    for pattern in itertools.product([False, True], repeat=4):
        probability = np.where(pattern, SURVIVAL, 1 - SURVIVAL).prod()
        frequency = (coins == pattern).all(1).mean()
        assert abs(frequency - probability) < 5 * np.sqrt(probability * (1 - probability) / STEPS), pattern


def test_a_dropped_block_leaves_its_statistics_alone(steps):
    """All statistics of a block's F move together or not at all; those of stem and shortcuts always move."""
    moved = steps[3]
    for index in range(4):
        rows = moved[f"block{index}"]
        assert len(rows) == 4  # mean and variance of two normalisations
        assert (rows == rows[0]).all()
    # Stem; the projection of block 2; one shortcut over each group, and the root.
    assert moved["others"].shape == (2 * (1 + 1 + 3), STEPS)
    assert moved["others"].all()


def test_training_adds_f_or_nothing(steps, coins, random_network):
    """The output is that of the network with F of the dropped blocks zero and F of the others as it is."""
    graph, params, statistics = random_network("cifar_resnet8", **SMALL)

    def outputs(factors):
        return times(nnx.merge(graph, params, statistics), factors)(IMAGES, train=True)["label"]

    patterns = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32)
    expected = np.asarray(jax.jit(lambda: jax.lax.map(outputs, patterns))())
    which = coins @ np.array([8, 4, 2, 1])
    assert len(set(which)) == 16
    np.testing.assert_allclose(steps[2], expected[which], rtol=1e-4, atol=1e-4)


def test_the_key_decides(steps):
    """The same keys give the same outputs, whenever they are drawn."""
    run, keys, outputs, _ = steps
    np.testing.assert_array_equal(run(keys[::-1])[0], outputs[::-1])


VARIANTS = {
    "post-activation": SMALL,
    "pre-activation, four levels": SMALL | dict(levels=4, preactivation=True, shortcut_types=("A",)),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("drop_path", ["batch", "image", "image_rescaled"])
def test_evaluation_scales_f_by_its_survival(variant, drop_path, random_network):
    """At test nothing is dropped, and F of block l is multiplied by p_l, unless training divided it by p_l."""
    overrides = VARIANTS[variant]
    stochastic, params, statistics = random_network("cifar_resnet8", survival=P_LAST, drop_path=drop_path, **overrides)
    plain, _, _ = random_network("cifar_resnet8", **overrides)
    factors = (np.ones(4) if drop_path == "image_rescaled" else SURVIVAL).astype(np.float32)

    @jax.jit
    def outputs(params, statistics):
        scaled = times(nnx.merge(plain, params, statistics), factors)
        return nnx.merge(stochastic, params, statistics)(IMAGES)["label"], scaled(IMAGES)["label"]

    np.testing.assert_allclose(*outputs(params, statistics), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("drop_path", "factor"), [("image", 1.0), ("image_rescaled", 1 / P_LAST)])
def test_each_image_has_a_coin_of_its_own(drop_path, factor, random_network):
    """Two thousand equal images: a share p of them keeps F, divided by p where the option says so."""
    overrides = dict(blocks_per_group=(1,), widths=(4,))
    stochastic, params, statistics = random_network("cifar_resnet8", survival=P_LAST, drop_path=drop_path, **overrides)
    plain, _, _ = random_network("cifar_resnet8", **overrides)
    images = np.broadcast_to(IMAGES[:1, :3, :3], (STEPS, 3, 3, 3))

    def features(graph, drop, **rngs):
        model = nnx.merge(graph, params, statistics)
        (block,) = get_blocks(model.backbone)
        block["body"]["norms"][1]["bias"] += 10.0  # so large that the ReLU behind the addition never cuts
        set_blocks(model.backbone, [block])
        return times(model, [drop])(images, train=True, **rngs)["features"]

    dropped, kept, drawn = jax.jit(
        lambda: (features(plain, 0.0), features(plain, 1.0), features(stochastic, 1.0, rngs=nnx.Rngs(0)))
    )()
    survived = np.abs(drawn - dropped).max(1) > 1
    assert abs(survived.mean() - P_LAST) < 5 * np.sqrt(P_LAST * (1 - P_LAST) / STEPS)
    expected = dropped + np.where(survived[:, None], factor * (kept - dropped), 0)
    np.testing.assert_allclose(drawn, expected, rtol=1e-3)


@pytest.mark.parametrize("drop_path", ["batch", "image"])
def test_training_without_random_numbers_says_so(drop_path, random_network):
    """The error names the argument that is missing."""
    model = nnx.merge(*random_network("cifar_resnet8", survival=0.5, drop_path=drop_path, **SMALL))
    with pytest.raises(ValueError, match="`rngs`"):
        model(IMAGES, train=True)


def test_a_dropped_block_computes_nothing(random_network, equations):
    """The convolutions of every block, and their gradients, are in one branch of a real conditional."""
    graph, params, statistics = random_network("cifar_resnet8", survival=P_LAST, **SMALL)

    def step(params, key):
        def loss(params):
            model = nnx.merge(graph, params, statistics)
            outputs = model(IMAGES, train=True, rngs=nnx.Rngs(key))["label"]
            return outputs.sum(), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        return jax.value_and_grad(loss, has_aux=True)(params)

    program = jax.make_jaxpr(step)(params, jax.random.key(0)).jaxpr

    def convolutions(found):
        return sum(one.primitive.name == "conv_general_dilated" for one in found)

    # Outside: the stem and its two gradients. The 1x1 shortcuts are matrix products on CPU.
    projections = 0 if jax.default_backend() == "cpu" else 3 * (1 + 3)
    outside = convolutions(equations(program, into=lambda one: one.primitive.name != "cond"))
    assert outside <= 3 + projections
    conditionals = [one.params["branches"] for one in equations(program) if one.primitive.name == "cond"]
    counts = [[convolutions(equations(branch.jaxpr)) for branch in branches] for branches in conditionals]
    assert all(dropped == 0 for dropped, _ in counts)
    # A loop over the first two blocks, the third, the fourth; each forward, normalised again without any, and backward.
    assert [survived for _, survived in counts] == [2, 2, 2, 0, 4, 0, 3, 0, 4]
