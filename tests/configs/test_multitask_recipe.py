"""The multi-task article's recipe, and what its words change."""

from contextlib import nullcontext

import jax
import pytest
from flax import nnx

from configs.age_gender import DATASETS, get_config
from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.models import create_model
from ror_jax.runs.experiment import open_task


def test_the_recipe_of_the_article():
    """Sections 4, 8, 9, 13; the learning rate is the backbone's."""
    config = get_config("convnext_tiny")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adamw", 1.5e-4, 5e-5)
    assert (optimizer.schedule, optimizer.clip_norm, config.views) == ("cosine", 1.0, "flip")
    assert (config.task.weights, config.model.mlp_widths, config.sampling.label) == ((1.0, 1.1), (512, 256), "age")
    assert (config.image_size, config.fit, config.normalize_by) == (224, "pad", "imagenet")
    assert get_config("resnet18").optimizer.learning_rate == 2e-4
    assert get_config("efficientnet_b0").optimizer.learning_rate == 1.5e-4


def test_pretrained_weights_are_asked_for():
    assert get_config("resnet18").init_from is None
    assert get_config("resnet18,pretrained").init_from == "weights/resnet18"
    assert get_config("resnet18").row == get_config("resnet18,smoke").row == "age_gender:resnet18,pretrained"


@pytest.mark.parametrize("backbone", ["convnext_base", "efficientnet_b2", "ror34", "ror3_110", "ror3_wrn16_4", "vgg16"])
def test_small_ones(backbone):
    """Each is a network that can be built, of its own family."""
    config = get_config(f"{backbone},smoke")
    model = {name: value for name, value in config.model.items() if value is not None}
    model |= {"image_size": config.image_size} if backbone == "vgg16" else {}

    network = nnx.eval_shape(lambda: create_model(heads={"age": 1}, rngs=nnx.Rngs(0), **model))
    assert len(network.trunks["features"].hidden) >= 2 and jax.tree.leaves(nnx.state(network.backbone))
    assert config.image_size == 64 and model["name"].startswith(("small_", backbone))


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_data_take_their_options(dataset, tmp_path):
    """No option is unknown to them: what is missing is the folder, or nothing, where faces are drawn."""
    config = get_config(f"resnet18,{dataset},smoke")
    config.cache_dir, config.dataset.people = str(tmp_path), 10 if dataset == "rendered_faces" else None
    with pytest.raises(DataError, match="needs data_dir") if dataset != "rendered_faces" else nullcontext():
        open_task(config)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("convnext_tinny", "did you mean 'convnext_tiny'"),
        ("ror34,smok", "did you mean 'smoke'"),
        ("resnet18,pretrained,smoke", "leave one"),
    ],
)
def test_words_that_do_not_exist(argument, words):
    with pytest.raises(UserError, match=words):
        get_config(argument)
