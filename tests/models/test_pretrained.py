"""Public weights: the same outputs as a ResNet in PyTorch with torchvision's module names, and back again; mistakes.

EfficientNets, ConvNeXts and timm's names are compared in `test_parity_with_timm.py`.
"""

import jax
import numpy as np
import pytest
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import create_model
from ror_jax.models.pretrained import load_state_dict, to_state_dict
from ror_jax.outputs import Hidden, Pool

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
TOLERANCE = 1e-4  # of the largest output
# Blocks, convolutions a block, and the published number of parameters.
DEPTHS = {
    18: ((2, 2, 2, 2), 2, 11_689_512),
    34: ((3, 4, 6, 3), 2, 21_797_672),
    50: ((3, 4, 6, 3), 3, 25_557_032),
    101: ((3, 4, 23, 3), 3, 44_549_160),
    152: ((3, 8, 36, 3), 3, 60_192_808),
}


def blank(name, num_classes, **overrides):
    """A network of zeros, without the time that drawing its parameters takes."""
    graph, state = nnx.split(nnx.eval_shape(lambda: create_model(name, num_classes, rngs=nnx.Rngs(0), **overrides)))
    return nnx.merge(graph, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state))


def random_state(model):
    """A state dict of `model`'s shapes, nothing in it zero or one."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.5, 1.5, array.shape).astype(np.float32) for name, array in to_state_dict(model).items()}


def torch_resnet(blocks, convs, width=64, num_classes=1000):
    """torchvision's ResNet as its documentation and module names describe it, with PyTorch's own layers."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, ins, width, stride):
            super().__init__()
            outs = width * (4 if convs == 3 else 1)
            if convs == 3:
                layers = [(ins, width, 1, 1), (width, width, 3, stride), (width, outs, 1, 1)]
            else:
                layers = [(ins, width, 3, stride), (width, width, 3, 1)]
            for index, (here, there, size, step) in enumerate(layers, start=1):
                setattr(self, f"conv{index}", nn.Conv2d(here, there, size, step, size // 2, bias=False))
                setattr(self, f"bn{index}", nn.BatchNorm2d(there))
            self.downsample = None
            if stride != 1 or ins != outs:
                self.downsample = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

        def forward(self, x):
            y = self.bn1(self.conv1(x)).relu()
            y = self.bn2(self.conv2(y))
            if convs == 3:
                y = self.bn3(self.conv3(y.relu()))
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            ins = width
            for group, count in enumerate(blocks):
                layer = []
                for index in range(count):
                    layer.append(Block(ins, width * 2**group, 2 if group > 0 and index == 0 else 1))
                    ins = width * 2**group * (4 if convs == 3 else 1)
                setattr(self, f"layer{group + 1}", nn.Sequential(*layer))
            self.fc = nn.Linear(ins, num_classes)

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    return ResNet()


def randomize(network, convs):
    """Random weights and statistics, nothing zero or one; blocks add little each, so that rounding is not amplified."""
    import torch

    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, float(np.sqrt(2 / np.prod(tensor.shape[1:]))))
        elif name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5).mul_(0.2 if name.endswith(f".bn{convs}.weight") else 1)
        elif not name.endswith("num_batches_tracked"):
            tensor.normal_(0, 0.1)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_reference_has_the_published_size(depth):
    torch = pytest.importorskip("torch", reason="the network to compare with is written in PyTorch")
    with torch.device("meta"):
        network = torch_resnet(*DEPTHS[depth][:2])
    assert sum(parameter.numel() for parameter in network.parameters()) == DEPTHS[depth][2]


@pytest.mark.parametrize("depth", DEPTHS)
def test_outputs_are_those_of_torch(depth):
    """Evaluation, training and the running statistics after it; the state dict comes back unchanged.

    The depths are the real ones; channels are fewer, to save time.
    """
    torch = pytest.importorskip("torch", reason="the network to compare with is written in PyTorch")
    blocks, convs, _ = DEPTHS[depth]
    width = 8
    network = torch_resnet(blocks, convs, width, num_classes=10)
    randomize(network, convs)
    state = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    model = blank(f"resnet{depth}", 10, widths=[width * 2**group for group in range(4)], mean=MEAN, std=STD)
    load_state_dict(model, state)
    returned = to_state_dict(model)
    assert returned.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    assert all(np.array_equal(returned[name], state[name]) for name in returned)

    images = np.random.default_rng(1).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    graph, arrays = nnx.split(model)

    @jax.jit
    def ours(arrays):
        model = nnx.merge(graph, arrays)
        return model(images)["label"], model(images, train=True)["label"], nnx.state(model, nnx.BatchStat)

    evaluated, trained, statistics = ours(arrays)
    nnx.update(model, statistics)
    normalised = torch.tensor((images - np.float32(MEAN)) / np.float32(STD)).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert_near(evaluated, network.eval()(normalised), "evaluation")
        assert_near(trained, network.train()(normalised), "training")
    moved = to_state_dict(model)
    for name, tensor in network.state_dict().items():
        if "running" in name:
            assert_near(moved[name], tensor, name)


def assert_near(ours, theirs, what):
    ours, theirs = np.asarray(ours), theirs.numpy()
    error, size = np.abs(ours - theirs).max(), np.abs(theirs).max()
    assert ours.shape == theirs.shape and error <= TOLERANCE * size, f"{what}: off by {error} of {size}"


def test_torch_takes_what_comes_out():
    """`load_state_dict` of PyTorch, strict as it is by default, takes the state dict of a network of ours."""
    torch = pytest.importorskip("torch", reason="the network to compare with is written in PyTorch")
    network = torch_resnet(*DEPTHS[18][:2], num_classes=3)
    state = random_state(blank("resnet18", 3))
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})


@pytest.mark.parametrize(
    ("name", "overrides", "head"),
    [
        ("tiny_resnet", {}, "fc"),
        ("tiny_bottleneck", {"levels": 1}, "fc"),
        ("tiny_efficientnet", {}, "classifier.1"),
        ("tiny_convnext", {}, "classifier.2"),
    ],
)
def test_a_round_trip_is_exact(name, overrides, head):
    """Small widths too, basic blocks and bottlenecks; `num_batches_tracked` is ignored."""
    model = blank(name, 5, **overrides)
    state = random_state(model)
    assert state[f"{head}.weight"].shape == (5, model.trunks["features"].width)
    assert load_state_dict(model, state | {"bn1.num_batches_tracked": np.array(7)}) == state.keys()
    returned = to_state_dict(model)
    assert returned.keys() == state.keys()
    assert all(np.array_equal(returned[key], state[key]) for key in state)


@pytest.mark.parametrize("heads", [{"age_group": 8}, {"a": 5, "b": 5}, {}])
@pytest.mark.parametrize(("name", "head"), [("tiny_resnet", "fc."), ("tiny_convnext", "classifier.2.")])
def test_prediction_layers_that_the_files_is_not_for_stay(name, head, heads):
    """Of another size, more than one, or none: the backbone is filled and the layers are not."""
    state = random_state(blank(name, 5))
    model = blank(name, heads)
    assert load_state_dict(model, state) == {key for key in state if not key.startswith(head)}
    for key, array in to_state_dict(model).items():
        assert key.startswith(head) or np.array_equal(array, state[key])
    assert not any(leaf.any() for leaf in jax.tree.leaves(nnx.state(model.heads)))


@pytest.mark.parametrize(("trunk", "taken"), [(Pool(norm=True, dropout=0.1, hidden=(Hidden(7),)), 2), (Pool(), 0)])
def test_the_norm_after_the_pooling_goes_to_the_trunk(trunk, taken):
    """With hidden layers behind it, too; a trunk without such a norm gets a backbone all the same."""
    state = random_state(blank("tiny_convnext", 5))
    model = blank("tiny_convnext", 8, trunks={"features": trunk})
    norm = {key for key in state if key.startswith("classifier.0.")}
    assert len(load_state_dict(model, state) & norm) == taken
    assert {key for key, array in to_state_dict(model).items() if np.array_equal(array, state.get(key))} == {
        key for key in state if not key.startswith("classifier.2.") and (taken or key not in norm)
    }


def test_what_does_not_fit_is_listed_and_nothing_changes():
    """Missing, misshapen and superfluous tensors in one line; the model stays as it was."""
    model = blank("tiny_resnet", 5)
    state = random_state(model) | {"layer9.x": np.zeros(1), "bn1.bias": np.zeros(9), "fc.bias": np.zeros(4)}
    del state["conv1.weight"], state["layer2.0.downsample.1.running_var"]
    with pytest.raises(UserError) as error:
        load_state_dict(model, state)
    message = str(error.value)
    assert "missing: conv1.weight, layer2.0.downsample.1.running_var; too many: layer9.x; misshapen: " in message
    assert "bn1.bias (is (9,), must be (8,)), fc.bias (is (4,), must be (5,))" in message
    assert "They " not in message and "\n" not in message
    assert not any(leaf.any() for leaf in jax.tree.leaves(nnx.state(model)))


@pytest.mark.parametrize(
    ("source", "model", "hint"),
    [
        ("resnet34", "resnet18", "They have the names of 'resnet34'"),
        ("resnet50", "resnet34", "They have the names of 'resnet50'"),
    ],
)
def test_another_depth_is_named(source, model, hint):
    """A long list is cut, and the depth that would be right is named, by its blocks whatever the widths are."""
    narrow = {"widths": (2, 2, 2, 2)}
    state = to_state_dict(blank(source, 5, **narrow))
    with pytest.raises(UserError, match=hint) as error:
        load_state_dict(blank(model, 5, **narrow), state)
    assert " more" in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("efficientnet_b1", "efficientnet_b0"),  # of another depth
        ("efficientnet_b2", "efficientnet_b1"),  # of other widths alone
        ("tiny_resnet", "tiny_convnext"),
        ("tiny_convnext", "resnet18"),
    ],
)
@pytest.mark.parametrize("heads", [3, {}])
def test_weights_of_another_model_are_named(source, model, heads):
    state = to_state_dict(blank(source, heads))
    with pytest.raises(UserError, match=f"not the model's: .* They are of '{source}': choose that model, or") as error:
        load_state_dict(blank(model, 3), state)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500


@pytest.mark.parametrize(
    ("name", "overrides"), [("tiny_ror", {}), ("tiny_preror", {"levels": 1}), ("cifar_resnet8", {}), ("cnn_4c2f", {})]
)
def test_other_networks_are_refused(name, overrides):
    with pytest.raises(UserError, match="and plain post-activation networks only"):
        load_state_dict(blank(name, 5, **overrides), {})
