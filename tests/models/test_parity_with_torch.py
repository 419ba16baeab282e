"""The networks against others written in PyTorch straight from the papers' equations, one block after another."""

import itertools

import jax
import numpy as np
import pytest
from flax import nnx

torch = pytest.importorskip("torch", reason="the networks to compare with are written in PyTorch")
functional = torch.nn.functional

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
TOLERANCE = 1e-4  # of the largest number in an array, or of 0.1 where all are smaller

RESIDUAL = {
    # Post-activation: levels 1 to 4, types A, B and C.
    "resnet_imagenet_stem": dict(levels=1, shortcut_types=("B",), stem="imagenet"),
    "resnet_equal_groups": dict(levels=1, shortcut_types=("B",), blocks_per_group=(2, 1, 1), widths=(4, 4, 4)),
    "ror2_type_c": dict(levels=2, shortcut_types=("C", "C")),
    "ror3_type_b": dict(levels=3, shortcut_types=("B", "B", "B"), blocks_per_group=(2, 2, 2), widths=(4, 8, 12)),
    "ror3_type_a_no_norm": dict(levels=3, shortcut_types=("A", "B", "A"), shortcut_norm=False),
    "ror4_type_a_average": dict(levels=4, shortcut_types=("A", "A", "A", "A"), downsample="average"),
    "ror4_b333": dict(levels=4, shortcut_types=("B", "B", "B", "B"), kernels=(3, 3, 3)),
    "ror3_bottleneck_k4": dict(levels=3, shortcut_types=("B", "B", "B"), kernels=(1, 3, 1), expansion=4),
    # Pre-activation: A+B, WRN's wider first group, BN after projections, a first BN-ReLU that the projection shares.
    "preresnet_a": dict(levels=1, shortcut_types=("A",), preactivation=True),
    "preror3_ab_imagenet_stem": dict(
        levels=3, shortcut_types=("B", "B", "A"), preactivation=True, stem="imagenet", stem_width=3
    ),
    "preror2_bottleneck_k2_norm": dict(
        levels=2, shortcut_types=("B", "A"), preactivation=True, kernels=(1, 3, 1), expansion=2, shortcut_norm=True
    ),
    "preror3_both_preact": dict(
        levels=3, shortcut_types=("B", "B", "B"), preactivation=True, both_preact=True, stem_width=3
    ),
}


@pytest.mark.parametrize("variant", RESIDUAL)
def test_residual_networks_agree(variant, random_network):
    """Outputs, maps, gradients and running statistics are those of the equations in PyTorch."""
    overrides = dict(blocks_per_group=(2, 2), widths=(4, 8)) | RESIDUAL[variant]
    side = 31 if overrides.get("stem") == "imagenet" else 9
    compare("cifar_resnet8", overrides, residual_network, residual_roles, side, random_network)


def test_4c2f_agrees(random_network):
    """Partial pooling windows, response normalisation and the two hidden layers are those of PyTorch."""
    compare("cnn_4c2f", dict(image_size=67, dropout=0.0), cnn_4c2f, flat_roles, 67, random_network)


def test_vgg_agrees(random_network):
    """A small VGG gives PyTorch's outputs and gradients."""
    overrides = dict(blocks_per_group=(1, 2), widths=(4, 6), hidden=5, image_size=8, dropout=0.0)
    compare("vgg16", overrides, vgg, flat_roles, 8, random_network)


def compare(name, overrides, reference, roles, side, random_network):
    graph, params, statistics = random_network(name, mean=MEAN, std=STD, **overrides)
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 255, (4, side, side, 3)).astype(np.float32)
    direction = rng.standard_normal((4, 3)).astype(np.float32)

    @jax.jit
    def ours(params):
        def loss(params):
            model = nnx.merge(graph, params, statistics)
            outputs = model(images, train=True)["label"]
            return (outputs * direction).sum(), (outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

        model = nnx.merge(graph, params, statistics)
        maps = model.backbone((images - np.float32(MEAN)) / np.float32(STD))
        gradients, (trained, moved) = jax.grad(loss, has_aux=True)(params)
        return model(images)["label"], maps, trained, gradients, moved

    evaluated, maps, trained, gradients, moved = ours(params)

    weights = {role: to_torch(value) for role, value in roles(params).items()}
    for weight in weights.values():
        weight.requires_grad_()
    buffers = {role: to_torch(value) for role, value in roles(statistics).items()}
    normalised = torch.tensor((images - np.float32(MEAN)) / np.float32(STD)).permute(0, 3, 1, 2)
    their_maps = {}
    outputs = reference(normalised, weights | buffers, their_maps, train=False, **overrides)
    assert_near(evaluated, outputs, "outputs, evaluation")
    assert maps.keys() == their_maps.keys()
    for map_name, x in their_maps.items():
        assert_near(maps[map_name], x.permute(0, 2, 3, 1), f"map {map_name}")
    outputs = reference(normalised, weights | buffers, {}, train=True, **overrides)
    assert_near(trained, outputs, "outputs, training")
    (outputs * torch.tensor(direction)).sum().backward()
    for role, gradient in roles(gradients).items():
        assert_near(to_torch(gradient), weights[role].grad, f"gradient of {role}")
    for role, value in roles(moved).items():
        assert_near(value, buffers[role], f"running {role}")


def assert_near(ours, theirs, what):
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape, what
    error, size = np.abs(ours - theirs).max(), max(np.abs(theirs).max(), 0.1)
    assert error <= TOLERANCE * size, f"{what}: off by {error} of {size}"


def to_torch(array):
    """Arrays in PyTorch's layout: kernels [h, w, C, K] become [K, C, h, w]."""
    array = np.array(array)
    return torch.tensor(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)


def flat_roles(tree):
    """Nested dicts as one dict with paths for names."""
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def residual_roles(tree):
    """The same, block l of the chain as block{l}, shortcut i of level n above the final one as level{n}.{i}."""
    backbone, roles = tree["backbone"], {}
    blocks, counts = itertools.count(), [itertools.count() for _ in range(9)]

    def walk(residual, level):
        if level > 0:
            roles[f"level{level}.{next(counts[level])}"] = residual.get("shortcut", {})
        for _, child in sorted(residual["children"].items()):
            if "blocks" not in child:
                walk(child, level + 1)
                continue
            for index in range(len(jax.tree.leaves(child)[0])):
                roles[f"block{next(blocks)}"] = jax.tree.map(lambda leaf: leaf[index], child["blocks"])  # noqa: B023

    walk(backbone["residuals"], 0)
    others = {"head": tree.get("heads", {}), "stem": backbone.get("stem", {}), "norm": backbone["norm"]}
    return flat_roles(roles | others)


def residual_network(
    x, weights, maps, *, train, blocks_per_group, widths, levels, shortcut_types, kernels=(3, 3), expansion=1,
    preactivation=False, stem="cifar", stem_width=None, shortcut_norm=None, both_preact=False, downsample="subsample",
):  # fmt: skip
    """Equations 1 to 8 of RoR: y_l = h(x_l) + F(x_l), at the last block of a group + g(its input), x_l+1 = f(y_l)."""
    shortcut_norm = (not preactivation) if shortcut_norm is None else shortcut_norm

    def norm(name, x):
        scale, bias, mean, var = (weights[f"{name}/{kind}"] for kind in ("scale", "bias", "mean", "var"))
        return functional.batch_norm(x, mean, var, scale, bias, training=train, momentum=0.1, eps=1e-5)

    def conv(name, x, stride=1):
        kernel = weights[f"{name}/kernel"]
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def project(name, x, stride):
        x = conv(f"{name}/conv", x, stride)
        return norm(f"{name}/norm", x) if shortcut_norm else x

    def identity(x, width, stride):
        if downsample == "average":
            x = functional.avg_pool2d(x, stride, ceil_mode=True, count_include_pad=False)
        else:
            x = x[:, :, ::stride, ::stride]
        return torch.cat([x, torch.zeros(len(x), width - x.shape[1], *x.shape[2:])], 1)

    def residual_function(name, x, stride, first_norm):  # F
        last = len(kernels) - 1
        for index in range(len(kernels)):
            if preactivation and (index > 0 or first_norm):
                x = norm(f"{name}/norms/{index}", x).relu()
            strided = index == (1 if kernels == (1, 3, 1) else 0)
            x = conv(f"{name}/convs/{index}", x, stride if strided else 1)
            if not preactivation:
                x = norm(f"{name}/norms/{index}", x)
                x = x if index == last else x.relu()
        return x

    # The chain of blocks: (width of the output, stride).
    chain = [
        (width * expansion, 2 if group > 0 and block == 0 else 1)
        for group, (count, width) in enumerate(zip(blocks_per_group, widths, strict=True))
        for block in range(count)
    ]
    # What the shortcuts above the final level span: everything; each group; halves of what the level above spans.
    stops = list(itertools.accumulate(blocks_per_group))
    spans = {1: [(0, stops[-1])], 2: list(itertools.pairwise([0, *stops]))}
    for level in range(3, levels):
        middles = [(start, (start + stop) // 2, stop) for start, stop in spans[level - 1]]
        spans[level] = [half for a, b, c in middles for half in ((a, b), (b, c))]

    x = conv("stem", x, 2 if stem == "imagenet" else 1)
    if not preactivation:
        x = norm("norm", x).relu()
    if stem == "imagenet":
        x = functional.max_pool2d(x, 3, 2, padding=1)
    assert x.shape[1] == (stem_width or widths[0])
    maps["stem"] = x

    inputs = {}
    for index, (width, stride) in enumerate(chain):
        inputs[index] = x
        changes = x.shape[1] != width or stride != 1
        projects = shortcut_types[-1] == "C" or (shortcut_types[-1] == "B" and changes)
        shared = both_preact and projects
        if shared:
            x = norm(f"block{index}/shared_norm", x).relu()
        y = project(f"block{index}/shortcut", x, stride) if projects else identity(x, width, stride)
        y = y + residual_function(f"block{index}/body", x, stride, not shared)
        for level in range(1, levels):
            for number, (start, stop) in enumerate(spans[level]):
                if stop == index + 1:
                    total = int(np.prod([stride for _, stride in chain[start:stop]]))
                    kind, g = shortcut_types[level - 1], inputs[start]
                    y = y + (identity(g, width, total) if kind == "A" else project(f"level{level}.{number}", g, total))
        x = y if preactivation else y.relu()
        if index + 1 in stops:
            maps[f"group{stops.index(index + 1) + 1}"] = x

    if preactivation:
        x = norm("norm", x).relu()
    maps["last"] = x
    return x.mean((2, 3)) @ weights["head/label/kernel"] + weights["head/label/bias"]


def cnn_4c2f(x, weights, maps, *, train, image_size, dropout):
    """conv 96@7/4, pool, LRN; conv 256@5, pool, LRN; conv 384@3, pool; fc 512; fc 512; fc (Levi and Hassner)."""
    response_norm = torch.nn.LocalResponseNorm(5, 1e-4, 0.75)
    for index, (stride, padding) in enumerate([(4, 0), (1, 2), (1, 1)]):
        kernel, bias = (weights[f"backbone/convs/{index}/{kind}"] for kind in ("kernel", "bias"))
        x = functional.conv2d(x, kernel, bias, stride, padding).relu()
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        x = response_norm(x) if index < 2 else x
        maps[f"group{index + 1}"] = maps["last"] = x
    return hidden_layers(x, weights)


def vgg(x, weights, maps, *, train, blocks_per_group, **_):
    """3x3 convolutions, a 2x2 pool after each group."""
    for group, count in enumerate(blocks_per_group):
        for block in range(count):
            kernel, bias = (weights[f"backbone/groups/{group}/{block}/{kind}"] for kind in ("kernel", "bias"))
            x = functional.conv2d(x, kernel, bias, padding=1).relu()
        x = functional.max_pool2d(x, 2)
        maps[f"group{group + 1}"] = maps["last"] = x
    return hidden_layers(x, weights)


def hidden_layers(x, weights):
    x = x.permute(0, 2, 3, 1).flatten(1)
    for name in ("trunks/features/hidden/0/linear", "trunks/features/hidden/1/linear", "heads/label"):
        x = x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        x = x if name == "heads/label" else x.relu()
    return x
