"""ONNX files: ONNX Runtime computes from them what JAX computes."""

import jax
import jax.export
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import describe_network, load_model
from ror_jax.models.export import has_onnx, open_onnx, to_onnx
from ror_jax.models.weights import save_weights
from ror_jax.outputs import Flatten, Fuse, Head, Hidden, Pool

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
HEADS = {"age_group": 8, "gender": 2, "age": Head(5, shared_column=True)}  # the last with one kernel column
TOLERANCE = 1e-4  # of the largest output

SMALL = dict(blocks_per_group=(2, 2), widths=(4, 8))
THREE = dict(blocks_per_group=(2, 2, 2), widths=(4, 8, 12))
CASES = {
    "resnet": ("tiny_resnet", 37, {}),
    "ror": ("tiny_ror", 32, {}),
    "preror": ("tiny_preror", 37, {}),
    "bottleneck": ("tiny_bottleneck", 32, {}),
    "ror3_8": ("ror3_8", 9, {}),
    "wrn": ("ror3_wrn16_4", 9, SMALL | dict(stem_width=3)),
    "type_c": ("cifar_resnet8", 9, SMALL | dict(levels=2, shortcut_types=("C", "C"))),
    "type_a_without_norm": ("cifar_resnet8", 9, THREE | dict(levels=2, shortcut_types=("A", "A"), shortcut_norm=False)),
    "average": ("cifar_resnet8", 9, THREE | dict(levels=3, shortcut_types=("A",) * 3, downsample="average")),
    "four_levels": ("cifar_resnet8", 8, SMALL | dict(levels=4, kernels=(3, 3, 3))),
    "both_preact": ("cifar_preresnet8", 9, SMALL | dict(both_preact=True, stem_width=3, shortcut_norm=True)),
    "stochastic_depth": ("preror3_8", 8, SMALL | dict(survival=0.5, dropout=0.3)),
    "rescaled": ("ror3_8", 8, SMALL | dict(survival=0.5, drop_path="image_rescaled")),
    "hidden_layers": ("ror3_8", 8, SMALL | dict(mlp_widths=(7, 6), mlp_dropout=0.5)),
    "efficientnet": ("tiny_efficientnet", 37, {}),
    "convnext": ("tiny_convnext", 37, {}),
    "4c2f": ("cnn_4c2f", 67, dict(image_size=67)),
    "vgg": ("vgg16", 9, dict(blocks_per_group=(1, 2), widths=(4, 6), hidden=5, image_size=9)),
}


@pytest.fixture
def network(random_network):
    """`network(name, **overrides)`: one of random numbers with three prediction layers."""
    return lambda name, heads=HEADS, **overrides: nnx.merge(
        *random_network(name, heads, mean=MEAN, std=STD, **overrides)
    )


def pixels(count, height, width):
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)


def assert_same(model, run, images):
    """For all of the images and for the first one alone."""
    graph, state = nnx.split(model)
    expected = jax.jit(lambda state: nnx.merge(graph, state)(images))(state)
    for count in (len(images), 1):
        outputs = run(images[:count])
        shapes = {name: array.shape for name, array in outputs.items()}
        assert shapes == {name: (count, head.size) for name, head in model.head_specs.items() if head.trunk}
        for name, array in outputs.items():
            assert array.dtype == np.float32
            atol = TOLERANCE * np.abs(expected[name]).max()
            np.testing.assert_allclose(array, expected[name][:count], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_onnx_runtime_computes_the_same(case, network, tmp_path):
    """Every kind of network, from one file for any number of images."""
    name, side, overrides = CASES[case]
    model = network(name, **overrides)
    to_onnx(model, tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    assert_same(model, open_onnx(tmp_path / "model.onnx"), pixels(3, side, side))


HEADS_OF_ALL_KINDS = {
    "pyramid_head": Head(3, "pyramid", hidden=(Hidden(4, norm=True, activation="gelu"), Hidden(5))),
    "fused_head": Head(2, "fused", shared_column=True),
    "early_head": Head(2, "early"),
    "constants": Head(2, None),
    "plain": Head(5),
}
TRUNKS = {
    "pyramid": Pool("group1", (1, 2, 3), norm=True, dropout=0.5, hidden=(Hidden(6),)),
    "fused": Fuse(("group1", "last"), side=2, width=4, kind="mean", hidden=(Hidden(3, norm=True),)),
    "early": Pool("group1", (1, 2), "max"),
}
TINY = {
    "post-activation": ("tiny_ror", 37, {}),
    "pre-activation": ("tiny_preror", 37, {}),
    "efficientnet": ("tiny_efficientnet", 37, {}),
    "convnext": ("tiny_convnext", 37, {}),
    "4c2f": ("cnn_4c2f", 67, dict(image_size=67, trunks=TRUNKS | {"early": Flatten("group2", (Hidden(3),))})),
    "vgg": ("vgg16", 9, dict(blocks_per_group=(1, 2), widths=(4, 6), hidden=5, image_size=9)),
}


@pytest.mark.parametrize("case", TINY)
def test_trunks_and_heads_of_all_kinds(case, network, tmp_path):
    """Pyramids of uneven cells, fused and flattened maps, hidden layers here and there; constants are left out."""
    name, side, overrides = TINY[case]
    model = network(name, HEADS_OF_ALL_KINDS, **{"trunks": TRUNKS} | overrides)
    to_onnx(model, tmp_path / "model.onnx", image_size=side)
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    assert_same(model, open_onnx(tmp_path / "model.onnx"), pixels(2, side, side))


@pytest.mark.parametrize("case", ["post-activation", "vgg"])
def test_stablehlo_takes_any_number_of_images(case, network):
    """Trunks and heads of all kinds, constants among them, in one program for all batch sizes."""
    name, side, overrides = TINY[case]
    model = network(name, HEADS_OF_ALL_KINDS, **{"trunks": TRUNKS} | overrides)
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, images: nnx.merge(graph, state)(images))
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"b, {side}, {side}, 3"), np.uint8)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    exported = jax.export.export(run)(shapes, images).out_avals
    assert all(str(aval.shape[0]) == "b" for aval in exported)


def test_what_no_output_needs_is_left_out(network, tmp_path):
    """Of a network of which only the first group is read, only that group is in the file, with its own weights."""
    model = network("tiny_resnet", {"a": Head(2, "early")}, trunks={"early": Pool("group1")})
    to_onnx(model, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Conv") == 1 + 2 * 2 and kinds.count("MatMul") == 1
    assert {constant.name for constant in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_residual_networks_take_images_of_any_size(network, tmp_path):
    """Oblong ones, too, from one file."""
    model = network("ror3_8", **SMALL)
    to_onnx(model, tmp_path / "model.onnx")
    run = open_onnx(tmp_path / "model.onnx")
    for height, width in ((8, 8), (7, 12)):
        assert_same(model, run, pixels(2, height, width))


def test_half_precision_is_exported_as_float32(network, tmp_path):
    to_onnx(network("ror3_8", dtype="bfloat16", **SMALL), tmp_path / "model.onnx")
    assert_same(network("ror3_8", **SMALL), open_onnx(tmp_path / "model.onnx"), pixels(2, 8, 8))


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_ror", "tiny_bottleneck"])
def test_batch_normalisation_is_folded(name, network, tmp_path):
    """What ONNX Runtime computes has none left where it follows a convolution, nor images turned about."""
    to_onnx(network(name), tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # as on any processor
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    before, after = (
        [node.op_type for node in onnx.load(tmp_path / f"{file}.onnx").graph.node] for file in ("model", "optimised")
    )
    assert before.count("BatchNormalization") == before.count("Conv")
    assert after.count("Conv") + after.count("FusedConv") == before.count("Conv")
    assert "BatchNormalization" not in after and after.count("Transpose") == 1


def test_a_folder_of_weights_becomes_a_file(network, tmp_path):
    """`load_model` gives the network that was saved, and refuses weights that are not what the folder says."""
    model = network("ror3_8", **SMALL)
    _, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    states = [nnx.to_pure_dict(state) for state in states]
    card = describe_network("ror3_8", SMALL, model)
    save_weights(tmp_path, *states, card)
    to_onnx(load_model(tmp_path), tmp_path / "model.onnx")
    assert_same(model, open_onnx(tmp_path / "model.onnx"), pixels(2, 8, 8))

    wider = card["heads"] | {"gender": card["heads"]["gender"] | {"size": 3}}
    save_weights(tmp_path, *states, card | {"heads": wider})
    with pytest.raises(UserError, match=r"has no params\.heads\.gender\.bias, params\.heads\.gender\.kernel"):
        load_model(tmp_path)
    save_weights(tmp_path, *states, card | {"overrides": {}})
    with pytest.raises(UserError, match=r"the weights are of another model"):
        load_model(tmp_path)


def test_what_cannot_be_exported_is_refused(network, tmp_path):
    """A network without outputs, one without `to_onnx`, grids of an unknown size, a folder that does not exist."""
    grid = network("ror3_8", {"a": Head(2, "fused")}, trunks=TRUNKS, **SMALL)
    with pytest.raises(UserError, match=r"trunk 'fused' .*image_size"):
        to_onnx(grid, tmp_path / "model.onnx")
    with pytest.raises(UserError, match="cannot be called 'images'"):
        to_onnx(network("ror3_8", {"images": 2}, **SMALL), tmp_path / "model.onnx")
    with pytest.raises(UserError, match="no outputs"):
        to_onnx(network("ror3_8", {"a": Head(2, None)}, **SMALL), tmp_path / "model.onnx")
    model = network("ror3_8", **SMALL)
    assert has_onnx(model)
    with pytest.raises(UserError, match="cannot be written"):
        to_onnx(model, tmp_path / "none" / "model.onnx")
    model.backbone = nnx.Dropout(0.5)
    assert not has_onnx(model)
    with pytest.raises(UserError, match="Dropout cannot be exported"):
        to_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match=r"cannot be opened: .*doesn't exist"):
        open_onnx(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no such thing")
    with pytest.raises(UserError, match=r"cannot be opened"):
        open_onnx(tmp_path / "broken.onnx")
