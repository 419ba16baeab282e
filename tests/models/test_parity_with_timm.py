"""EfficientNet and ConvNeXt with weights of torchvision's and timm's networks: they compute what those compute."""

import jax
import numpy as np
import pytest
from flax import nnx

from ror_jax.convert import convert
from ror_jax.errors import UserError
from ror_jax.models import create_model, load_model
from ror_jax.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, load_state_dict, to_state_dict

pytestmark = pytest.mark.usefixtures("torch_libraries")
TOLERANCE = 1e-4  # of the largest number in an array, or of 0.1 where all are smaller
CLASSES = 5

# Small networks, and below each library's own words for them.
SMALL = {
    "efficientnet_b0": dict(
        blocks_per_group=(1, 3, 2), widths=(8, 16, 24), kernels=(3, 5, 3), strides=(1, 2, 2), expansions=(1, 4, 6),
        stem_width=8, head_width=32,
    ),
    "convnext_tiny": dict(blocks_per_group=(1, 2, 3, 1), widths=(4, 8, 12, 16)),
}  # fmt: skip


def torchvision_network(name, small):
    from torchvision import models

    if name == "convnext_tiny":
        counts, widths = SMALL[name].values()
        rows = zip(widths, (*widths[1:], None), counts, strict=True)
        groups = [models.convnext.CNBlockConfig(*row) for row in rows]
        return models.ConvNeXt(groups, num_classes=CLASSES) if small else models.convnext_tiny(num_classes=CLASSES)
    rows = [(1, 3, 1, 8, 8, 1), (4, 5, 2, 8, 16, 3), (6, 3, 2, 16, 24, 2)]
    groups = [models.efficientnet.MBConvConfig(*row) for row in rows]
    if small:
        return models.EfficientNet(groups, dropout=0, stochastic_depth_prob=0, last_channel=32, num_classes=CLASSES)
    return models.efficientnet_b0(num_classes=CLASSES)


def timm_network(name, small):
    import timm
    from timm.models._efficientnet_builder import decode_arch_def
    from torch import nn

    if not small:
        return timm.create_model(name, num_classes=CLASSES)
    if name == "convnext_tiny":
        counts, widths = SMALL[name].values()
        return timm.models.ConvNeXt(depths=counts, dims=widths, num_classes=CLASSES)
    groups = ("ds_r1_k3_s1_e1_c8_se0.25", "ir_r3_k5_s2_e4_c16_se0.25", "ir_r2_k3_s2_e6_c24_se0.25")
    size = dict(num_features=32, stem_size=8, fix_stem=True)
    return timm.models.EfficientNet(
        decode_arch_def([[group] for group in groups]), act_layer=nn.SiLU, num_classes=CLASSES, **size
    )


NETWORKS = {"torchvision": torchvision_network, "timm": timm_network}


def random_torch_network(library, name, small):
    """Random weights and statistics, nothing zero or one; blocks add little each, so that rounding is not amplified."""
    import torch

    torch.manual_seed(0)
    network = NETWORKS[library](name, small)
    for key, tensor in network.state_dict().items():
        if key.endswith(("layer_scale", "gamma")):
            tensor.uniform_(0.1, 0.3)
        elif tensor.ndim > 1:
            tensor.normal_(0, float(np.sqrt(2 / np.prod(tensor.shape[1:]))))
        elif key.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        elif not key.endswith("num_batches_tracked"):
            tensor.normal_(0, 0.1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.01  # theirs is 0.1, the published one this
    return network


def pixels(count, side):
    return np.random.default_rng(1).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


def normalised(images):
    """A tensor of them as the libraries' networks take them."""
    import torch

    return torch.tensor((images - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)).permute(0, 3, 1, 2)


def assert_near(ours, theirs, what):
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    error, size = np.abs(ours - theirs).max(), max(np.abs(theirs).max(), 0.1)
    assert ours.shape == theirs.shape and error <= TOLERANCE * size, f"{what}: off by {error} of {size}"


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("library", NETWORKS)
def test_published_networks_in_evaluation(library, name, tmp_path):
    """From a file such as PyTorch Lightning's to a folder of weights, and from there to outputs."""
    import torch

    network, file = random_torch_network(library, name, small=False), tmp_path / "weights.pt"
    torch.save({"state_dict": {f"model.{key}": tensor for key, tensor in network.state_dict().items()}}, file)
    table = convert(file, name, tmp_path)
    taken = [tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")]
    assert table.splitlines()[1].split() == ["taken", str(len(taken)), f"{sum(map(torch.numel, taken)):,}"]

    images = pixels(2, 64)
    graph, state = nnx.split(load_model(tmp_path))
    outputs = jax.jit(lambda state: nnx.merge(graph, state)(images)["label"])(state)
    with torch.no_grad():
        assert_near(outputs, network.eval()(normalised(images)), "outputs")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("efficientnet_b1", "They are of 'efficientnet_b1'"),
        ("resnet18", "They are of 'resnet18'"),
        ("vit_tiny_patch16_224", "more$"),
    ],
)
def test_timms_weights_of_another_model_are_told(name, hint):
    import timm

    state = {key: tensor.numpy() for key, tensor in timm.create_model(name).state_dict().items()}
    model = create_model("tiny_efficientnet", 5, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=f"these tensors are not the model's: .*{hint}"):
        load_state_dict(model, state)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("library", NETWORKS)
def test_small_networks_in_training(library, name):
    """Outputs, gradients and running statistics, on images of an odd size; nothing is dropped on either side."""
    import torch

    network = random_torch_network(library, name, small=True)
    overrides = SMALL[name] | {"survival": 1.0} | ({"dropout": 0.0} if name == "efficientnet_b0" else {})
    model = create_model(name, CLASSES, rngs=nnx.Rngs(0), mean=IMAGENET_MEAN, std=IMAGENET_STD, **overrides)
    load_state_dict(model, {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()})
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, statistics = map(nnx.to_pure_dict, states)
    images = pixels(4, 67)
    direction = np.random.default_rng(2).standard_normal((4, CLASSES)).astype(np.float32)

    @jax.jit
    def ours(params, images):
        def loss(params, images):
            model = nnx.merge(graph, params, statistics)
            outputs = model(images, train=True)["label"]
            return (outputs * direction).sum(), (outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

        evaluated = nnx.merge(graph, params, statistics)(images)["label"]
        return evaluated, *jax.grad(loss, argnums=(0, 1), has_aux=True)(params, images)

    evaluated, (gradients, to_images), (trained, moved) = ours(params, images)

    inputs = normalised(images).requires_grad_()
    assert_near(evaluated, network.eval()(inputs), "outputs, evaluation")
    outputs = network.train()(inputs)
    assert_near(trained, outputs, "outputs, training")
    (outputs * torch.tensor(direction)).sum().backward()
    assert_near(to_images * np.float32(IMAGENET_STD), inputs.grad.permute(0, 2, 3, 1), "gradient of the images")
    if library == "torchvision":  # whose names `to_state_dict` writes
        named = to_state_dict(nnx.merge(graph, gradients, moved))
        theirs = network.state_dict() | {key: parameter.grad for key, parameter in network.named_parameters()}
        assert named.keys() == {key for key in theirs if not key.endswith("num_batches_tracked")}
        for key, array in named.items():
            assert_near(array, theirs[key], key)
