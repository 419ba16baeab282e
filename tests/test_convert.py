"""From a file of torchvision's to a folder, and from the folder to a run."""

import hashlib
import json
import runpy
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from ror_jax.convert import convert, main
from ror_jax.errors import UserError
from ror_jax.models import create_model, describe_network
from ror_jax.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, load_state_dict, to_state_dict
from ror_jax.models.surgery import ror_from_resnet
from ror_jax.models.weights import flatten, load_weights, save_weights
from ror_jax.outputs import Head, Pool, from_json
from ror_jax.runs.experiment import create_experiment
from ror_jax.runs.run import evaluate_checkpoint, train_and_test
from ror_jax.training.state import empty_metrics


@pytest.fixture(scope="module")
def resnet():
    """A small ResNet with torchvision's names, six outputs and random numbers everywhere."""
    model = create_model("tiny_resnet", 6, rngs=nnx.Rngs(3), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    rng = np.random.default_rng(0)
    state = to_state_dict(model)
    for name, array in state.items():
        if array.ndim == 1:
            state[name] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
    load_state_dict(model, state)
    return model


@pytest.fixture(scope="module")
def state(resnet):
    return to_state_dict(resnet)


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / "tiny.safetensors"
    save_file(state | {"bn1.num_batches_tracked": np.array(9)}, path)
    return path


IMAGES = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


def outputs(model, images=IMAGES, name="label"):
    graph, arrays = nnx.split(model)
    return jax.jit(lambda arrays: nnx.merge(graph, arrays)(images)[name])(arrays)


def from_folder(folder):
    """The network that a folder of weights describes, every one of its tensors from there."""
    tensors, card = load_weights(folder)
    names = {"mean": card["mean"], "std": card["std"]} | card["overrides"]
    names |= {part: from_json(card[part]) for part in ("heads", "trunks")}
    model = nnx.eval_shape(lambda: create_model(card["model"], rngs=nnx.Rngs(0), **names))
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    trees = dict(zip(("params", "batch_stats"), map(nnx.to_pure_dict, states), strict=True))
    trees = jax.tree_util.tree_map_with_path(
        lambda path, _: tensors.pop(jax.tree_util.keystr(path, simple=True, separator=".")), trees
    )
    assert not tensors
    return nnx.merge(graph, *jax.tree.map(jnp.asarray, (trees["params"], trees["batch_stats"])))


# --- Writing folders ----------------------------------------------------------------------------------------------


def test_a_resnet_keeps_everything(file, state, resnet, tmp_path):
    """Same state dict, same outputs; the card says what it is and where it comes from."""
    table = convert(file, "tiny_resnet", tmp_path)
    model = from_folder(tmp_path)
    assert all(np.array_equal(array, state[name]) for name, array in to_state_dict(model).items())
    np.testing.assert_array_equal(outputs(model), outputs(resnet))
    card = json.loads((tmp_path / "model.json").read_text())
    assert from_json(card.pop("heads")) == {"label": Head(6)} and from_json(card.pop("trunks")) == {"features": Pool()}
    assert card == {
        "model": "tiny_resnet",
        "overrides": {},
        "mean": [123.675, 116.28, 103.53],
        "std": pytest.approx([58.395, 57.12, 57.375]),
        "source": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
    }
    numbers = sum(array.size for array in state.values())
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["taken", str(len(state)), f"{numbers:,}"],
        ["new", "shortcuts", "0", "0"],
        ["left:", "fc", "0", "0"],
        ["left:", "num_batches_tracked", "1", "1"],
    ]
    assert "params.backbone.stem.kernel" in load_file(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("init", ["he", "zero"])
def test_a_ror_adds_shortcuts(init, file, resnet, tmp_path):
    """It is `ror_from_resnet` with the seed given; with "zero" the outputs are the ResNet's, with "he" others."""
    table = convert(file, "tiny_ror", tmp_path, new_shortcut_init=init, seed=5)
    expected = ror_from_resnet(resnet, 3, new_shortcut_init=init, rngs=nnx.Rngs(5))
    found = from_folder(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, *(nnx.to_pure_dict(nnx.state(m)) for m in (found, expected)))
    same = np.allclose(outputs(found), outputs(resnet), rtol=1e-5, atol=1e-5)
    assert same == (init == "zero")
    # The root's and the groups': a kernel, scale, bias, mean and variance each.
    new = 8 * 32 + 8 * 8 + 8 * 16 + 16 * 24 + 24 * 32 + 4 * (32 + 8 + 16 + 24 + 32)
    assert table.splitlines()[2].split() == ["new", "shortcuts", "25", f"{new:,}"]


def test_the_command_line(file, tmp_path, capsys):
    """As a person would type it, without the classifier."""
    arguments = f"--weights {file} --model tiny_ror --output {tmp_path}/out --without_classifier"
    main(arguments.split())
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["left:", "fc", "2", str(6 * 32 + 6)] in rows
    tensors, card = load_weights(tmp_path / "out")
    assert card["heads"] == {} and not any("heads" in name for name in tensors)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny_bottleneck", "They are of 'tiny_resnet': choose that model"),
        ("tiny_preror", "and plain post-activation networks only"),
        ("vgg16", "plain post-activation networks only, such as 'resnet34'"),
        ("resnet35", "unknown model 'resnet35'; did you mean 'resnet"),
    ],
)
def test_mistakes_get_one_line(model, message, file, tmp_path):
    """No traceback, exit status 1, no folder."""
    with pytest.raises(SystemExit) as exit:
        main(["--weights", str(file), "--model", model, "--output", str(tmp_path / "out")])
    assert exit.value.code.startswith("error: ") and message in exit.value.code and "\n" not in exit.value.code
    assert not (tmp_path / "out").exists()


def test_a_prefix_of_all_names_is_told(state, tmp_path):
    save_file({f"net.{name}": array for name, array in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"All of the file's names begin with 'net\.': save it without that"):
        convert(tmp_path / "w.safetensors", "tiny_resnet", tmp_path / "out")


def test_the_former_command(file, tmp_path, monkeypatch):
    arguments = ["convert", f"--weights={file}", "--model=tiny_resnet", f"--output={tmp_path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_module("tools.convert_torchvision", run_name="__main__")
    assert (tmp_path / "weights.safetensors").exists()


# --- Starting runs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    convert(file, "tiny_ror", path)
    return path


@pytest.fixture(scope="module")
def run_config(tiny_config, folder):
    """Settings of a tiny run that starts from the folder."""

    def make(**changes):
        model = {"model__name": "tiny_ror", "model__blocks_per_group": None, "model__widths": None}
        return tiny_config(**{"init_from": str(folder), "epochs": 1, **model, **changes})

    return make


def flat(state):
    return {name: np.asarray(leaf) for name, leaf in flatten(state.params, state.batch_stats).items()}


def test_a_run_starts_from_the_folder(run_config, folder, capsys):
    """All but the prediction layer is the folder's, to the last bit; pixels are normalised as for these weights."""
    experiment = create_experiment(run_config())
    line = capsys.readouterr().out
    fresh = flat(create_experiment(run_config(init_from=None)).state)
    tensors, card = load_weights(folder)
    for name, array in flat(experiment.state).items():
        np.testing.assert_array_equal(array, fresh[name] if "heads" in name else tensors[name], err_msg=name)
    assert experiment.card["mean"] == card["mean"] and experiment.card["std"] == card["std"]
    assert experiment.card["mean"] != pytest.approx(experiment.dataset.mean)
    # The compiled program, too, is the folder's network, mean and standard deviation included.
    batch = next(iter(experiment.test_batches(experiment.dataset.test)))
    sums = empty_metrics(experiment.task, experiment.mesh)
    _, tested = experiment.eval_step(experiment.state, batch, sums)
    head = experiment.state.params["heads"]["age_group"]
    logits = outputs(from_folder(folder), batch["image"][:, 0], "features") @ head["kernel"] + head["bias"]
    answer, probabilities = tested.answers["age_group"], jax.nn.softmax(logits)
    chosen = np.take_along_axis(probabilities, answer.chosen[:, None], 1)[:, 0]
    np.testing.assert_allclose(answer.confidence, chosen, rtol=1e-3, atol=1e-5)

    kept = [tensor.size for name, tensor in tensors.items() if "heads" not in name]
    assert line == (
        f"Starting from tiny_ror in {folder}: took {len(kept)} tensors with {sum(kept):,} numbers; fresh:"
        " params.heads.age_group.bias, params.heads.age_group.kernel; not used: params.heads.label.bias,"
        " params.heads.label.kernel.\n"
    )


def test_a_random_prediction_layer_is_not_tested(run_config, folder):
    with pytest.raises(UserError, match=r"has no params\.heads\.age_group\.bias, .* the test would mean nothing"):
        create_experiment(run_config(epochs=0))


def test_a_prediction_layer_of_the_same_name_and_size_is_taken(run_config, file, tmp_path):
    convert(file, "tiny_ror", tmp_path)
    weights = tmp_path / "weights.safetensors"
    tensors = load_file(weights)
    renamed = {name.replace("heads.label", "heads.gender"): array for name, array in tensors.items()}
    save_file({name: array[..., :2] if "heads" in name else array for name, array in renamed.items()}, weights)
    experiment = create_experiment(run_config(init_from=str(tmp_path), task__name="gender"))
    np.testing.assert_array_equal(
        experiment.state.params["heads"]["gender"]["bias"], tensors["params.heads.label.bias"][:2]
    )


def test_weights_of_another_model_are_refused(run_config, folder, file, tmp_path):
    """Widths that differ are listed; for a RoR from a ResNet's folder the error says how to convert it."""
    with pytest.raises(UserError, match=r"init_from: .*differ: .*\(file \(8,\), model \(4,\)\).*; and \d+ more"):
        create_experiment(run_config(model__widths=(4, 16, 24, 32)))
    convert(file, "tiny_resnet", tmp_path)
    with pytest.raises(UserError, match=r"holds 'tiny_resnet', .*python -m ror_jax\.convert with --model tiny_ror"):
        create_experiment(run_config(init_from=str(tmp_path)))
    with pytest.raises(UserError, match=r"model\.json: No such file"):
        create_experiment(run_config(init_from=str(tmp_path / "none")))
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        create_experiment(run_config(init_from=str(tmp_path)))


def test_a_run_that_goes_on_needs_the_folder_no_more(tiny_config, tmp_path, capsys):
    """Train, delete the folder, test the checkpoint again: the results are the same."""
    folder, workdir = tmp_path / "weights", tmp_path / "run"
    small = {"blocks_per_group": (1, 1), "widths": (4, 8)}
    model = {f"model__{name}": value for name, value in small.items()} | {"model__name": "cifar_resnet8"}
    config = tiny_config(init_from=str(folder), epochs=1, **model)
    model = create_model("cifar_resnet8", {}, rngs=nnx.Rngs(0), mean=IMAGENET_MEAN, std=IMAGENET_STD, **small)
    _, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    save_weights(folder, *map(nnx.to_pure_dict, states), describe_network("cifar_resnet8", small, model))

    cache = jax.config.jax_compilation_cache_dir
    train_and_test(config, workdir)
    assert capsys.readouterr().out.count("Starting from cifar_resnet8") == 1
    shutil.rmtree(folder)
    evaluate_checkpoint(config, workdir, "latest")
    jax.config.update("jax_compilation_cache_dir", cache)
    assert "Starting from" not in capsys.readouterr().out
    trained, tested = (
        json.loads((place / "summary.json").read_text())["test"] for place in (workdir, workdir / "evaluate_latest")
    )
    assert tested["confusion"] == trained["confusion"]
    assert json.loads((workdir / "config.json").read_text())["init_from"] == str(folder)
    assert json.loads((workdir / "model.json").read_text())["mean"] == list(IMAGENET_MEAN)
