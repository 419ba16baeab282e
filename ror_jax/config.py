"""The settings of a run: what there is, with types, defaults and descriptions; a file in `configs/` changes some.

The settings of models, tasks, data sets, optimizers and the like are declared by the functions and classes that read
them, see `ror_jax.settings`; those of the run itself are declared here.
"""

import dataclasses
import functools
import runpy
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from input_pipeline import create_dataset, find_dataset, list_datasets, transforms
from input_pipeline.jitter import Jitter
from input_pipeline.sampling import InverseFrequency
from ror_jax import models, tasks
from ror_jax.errors import UserError, check_fields, unknown
from ror_jax.settings import Setting, declared, optional, to_config
from ror_jax.startup import CACHE_DIR
from ror_jax.training.mesh import create_mesh
from ror_jax.training.optimizer import OPTIMIZERS, create_optimizer
from ror_jax.training.step import make_train_step
from ror_jax.training.stopping import EarlyStopping


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What a run is called, where it begins, and where things lie.

    Attributes:
      name: name of the run; its folder is runs/NAME unless --workdir says otherwise.
      row: FILE:ARGUMENT of `configs/`, the experiment of a paper that this is; see `ror_jax.report`.
      seed: seed of parameters, order of images, augmentation and stochastic depth.
      deterministic: compute the same numbers each time on a GPU, too, by slower algorithms; elsewhere always.
      init_from: what to start from: a folder of weights, as `python -m ror_jax.convert` makes it, or the name of a
        pretrained model.
      stages: names of the stages that a recipe trains before itself, in this order, each from the weights of the one
        before it. stage.NAME holds what sets a stage apart; its folder is beside the recipe's, under its own name.
      data_dir: folder with the data set's own files.
      cache_dir: folder of prepared data sets, compiled programs and downloads.
      allow_changed_data: go on with a run although its images or labels are other ones now.
      profile: trace a few steps of this start for TensorBoard and Perfetto, in the run's folder.
      closing_words: text that is printed when all is done.
    """

    name: str = ""
    row: str | None = None
    seed: int = 0
    deterministic: bool = False
    init_from: str | None = None
    stages: tuple[str, ...] = ()
    data_dir: str | None = None
    cache_dir: str = CACHE_DIR
    allow_changed_data: bool = False
    profile: bool = False
    closing_words: str = ""

    def __post_init__(self):
        check_fields(self, {"seed": (self.seed >= 0, "0 or more")})


@dataclasses.dataclass(frozen=True)
class ImageSettings:
    """What becomes of an image before the network sees it.

    Attributes:
      image_size: pixels a side, as the network sees them.
      augmentation: random crops of training images, "scale_and_aspect", "scale" or "pad_and_crop"; "center": as a test
        image; "none": the same without flips.
      min_area: share of the image that a random crop of "scale_and_aspect" or "scale" keeps at least.
      flip: probability of mirroring a training image, with any augmentation but "none".
      resize: side of a test image before its centre is cut out; None: in proportion 256 for an image_size of 224.
      fit: whether `resize` is the shorter side, "crop"; or the longer one, "pad", and a border makes it a square.
      views: crops of a test image: "single", its centre; or "flip", "five_crop", "ten_crop". Answers are averaged.
      normalize_by: whose pixels' mean and deviation: "data" or "imagenet"; with init_from, those of its weights.
      data_on_device: keep all images, of one size, on the accelerator and augment them there, by other random numbers
        than on the host.
      workers: processes that decode and augment; 0: threads of this one; -1: 0 on CPU, else half the cores.
    """

    image_size: int = 224
    augmentation: str = "scale_and_aspect"
    min_area: float = transforms.MIN_AREA
    flip: float = 0.5
    resize: int | None = None
    fit: str = "crop"
    views: str = "single"
    normalize_by: str = "data"
    data_on_device: bool = False
    workers: int = -1

    def __post_init__(self):
        wanted = {
            "image_size": (self.image_size >= 8, "8 or more"),
            "flip": (0 <= self.flip <= 1, "from 0 to 1"),
            "resize": (
                self.resize is None or self.resize >= self.image_size,
                f"image_size, {self.image_size}, or more",
            ),
            "fit": (self.fit in transforms.FITS, f"one of {', '.join(transforms.FITS)}"),
            "views": (self.views in transforms.VIEWS, f"one of {', '.join(transforms.VIEWS)}"),
            "normalize_by": (self.normalize_by in ("data", "imagenet"), "data or imagenet"),
        }
        check_fields(self, wanted)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How long a run trains, in which batches, and when it tests and saves.

    Attributes:
      epochs: epochs of training; 0: only test, such as weights of init_from.
      batch_size: training images a step, over all devices.
      test_batch_size: test images at a time, over all devices.
      steps_per_call: steps of training in one call of the accelerator, which saves the host's time for each call; None:
        1, or with data_on_device the largest number up to 25 that divides the steps of an epoch and test_every_steps.
      test_every: epochs between tests.
      test_every_steps: steps between further tests within an epoch.
      log_every: steps between lines of metrics.jsonl within an epoch, rounded up to whole calls.
      checkpoint_minutes: minutes between checkpoints within long epochs; the end of every epoch is saved anyway.
    """

    epochs: int = 164
    batch_size: int = 64
    test_batch_size: int = 64
    steps_per_call: int | None = None
    test_every: int = 1
    test_every_steps: int | None = None
    log_every: int = 20
    checkpoint_minutes: float = 10.0

    def __post_init__(self):
        counts = ("batch_size", "test_batch_size", "test_every", "log_every")
        wanted = {
            "epochs": (self.epochs >= 0, "0 or more"),
            **{name: (getattr(self, name) >= 1, "1 or more") for name in counts},
            "steps_per_call": (self.steps_per_call is None or self.steps_per_call > 0, "1 or more, or None"),
            "test_every_steps": (self.test_every_steps is None or self.test_every_steps > 0, "1 or more, or None"),
            "checkpoint_minutes": (self.checkpoint_minutes > 0, "positive"),
        }
        check_fields(self, wanted)


RUN = (RunSettings, ImageSettings, TrainingSettings)
NAMES = {"dataset": list_datasets, "model": models.list_models, "task": tasks.registered, "optimizer": OPTIMIZERS.keys}


def declarations() -> dict[str, dict[str, Setting]]:
    """Returns all settings by group and name; those of the run itself are in the group "".

    An option of a data set, model, task or optimizer has the default None: that of the one that is chosen by name.
    """
    kinds = {type(backbone): name for name, backbone in models.registered().items()}
    one_of_each = {"model": kinds.values()}
    options = {
        group: optional(_options(group, name) for name in one_of_each.get(group, names()))
        for group, names in NAMES.items()
    }
    return {group: settings | options.get(group, {}) for group, settings in _always_read().items()}


def default_config() -> ConfigDict:
    """Returns the settings of Deep-RoR's training from scratch (section IV.A), without data set, model and task."""
    config = ConfigDict()
    for group, settings in declarations().items():
        if group:
            config[group] = to_config(settings)
        else:
            config.update(to_config(settings))
    config.stage = ConfigDict()
    return config.lock()


def stage_config(**settings: Any) -> ConfigDict:
    """What sets a stage apart from its recipe: these settings, by name; all others, None, are those of the recipe.

    A stage with a `task.name` or `dataset.name` of its own takes nothing of the recipe's task, or data set and
    `data_dir`, nor of its `sampling`, `early_stopping.metric` or `.split`: they would make no sense there.
    """

    def blank(config: ConfigDict) -> ConfigDict:
        return ConfigDict(
            {
                name: blank(value) if isinstance(value, ConfigDict) else placeholder(config.get_type(name))
                for name, value in config.items()
            }
        )

    stage = blank(default_config())
    del stage.stages, stage.stage, stage.closing_words
    stage.update(settings)
    return stage.lock()


def given(settings: ConfigDict) -> dict:
    """Returns the settings that are not None, as a dict of dicts; the others are left to whoever has a default."""
    nested = {key: given(value) if isinstance(value, ConfigDict) else value for key, value in settings.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}


def load_config(argument: str) -> ConfigDict:
    """Returns the config that `--config=FILE` or `--config=FILE:ARGUMENT` means.

    Raises:
      UserError: there is no such file.
    """
    file, _, words = argument.partition(":")
    if not Path(file).is_file():
        raise UserError(f"there is no config file {file}")
    return run_file(Path(file).resolve())["get_config"](*[words] if words else [])


@functools.cache
def run_file(file: Path) -> dict[str, Any]:
    """Returns what a config file defines; it is run once, as what it registers can be registered once."""
    return runpy.run_path(str(file))


def describe(config: ConfigDict) -> str:
    """Returns all settings that a run of this config reads, with values and descriptions, as text for a terminal."""
    known, read = declarations(), _always_read()
    for group in NAMES:
        read[group] |= _options(group, config[group].name)
    rows = list(_rows(read, config))
    for name, stage in config.stage.items():
        rows += [row for row in _rows(known, stage, f"stage.{name}.") if row[1] is not None]
    width = max(len(name) for name, *_ in rows)
    lines = [f"{name:{width}}  {_words(*row)}\n    {row[1].description}" for name, *row in rows]
    unread = [f"{group}.{name}" for group in NAMES for name in known[group] if name not in read[group]]
    chosen = ", ".join(config[group].name for group in NAMES)
    rest = f"Other settings, which {chosen} do not read: {', '.join(unread)}"
    return "\n".join([*lines, "", textwrap.fill(rest, 120, break_on_hyphens=False)])


def _always_read() -> dict[str, dict[str, Setting]]:
    """The settings that every run reads, by group and name."""
    settings: dict[str, Setting] = {}
    for part in RUN:
        settings |= declared(part)
    return {
        "": settings,
        "dataset": {"name": _name(list_datasets())},
        "model": {"name": Setting(str, "", "one of `ror_jax.models.list_models()`, such as ror34")},
        "task": {"name": _name(tasks.registered(), more="; or several, joined by +")} | declared(tasks.create_task),
        "optimizer": {"name": _name(OPTIMIZERS, "sgd")} | declared(create_optimizer, ("epochs", "steps_per_epoch")),
        "jitter": declared(Jitter, ("fill",)),
        "sampling": declared(InverseFrequency, ("dataset",)),
        "early_stopping": declared(EarlyStopping),
        "guard": declared(make_train_step, ("deterministic",)),
        "mesh": declared(create_mesh, ("devices",)),
    }


def _name(known: Iterable[str], default: str = "", more: str = "") -> Setting:
    return Setting(str, default, f"one of {', '.join(sorted(known))}{more}")


def _options(group: str, name: str) -> dict[str, Setting]:
    """The options of the data set, model, task or optimizer of that name, with its own defaults."""
    if group == "task" and "+" in name:
        return {option: each for part in name.split("+") for option, each in _options(group, part).items()}
    if name not in NAMES[group]():
        raise unknown(f"{group}.name", name, NAMES[group]())
    if group == "dataset":
        own, shared = declared(find_dataset(name), ("labels",)), declared(create_dataset, ("data_dir", "cache_dir"))
        return own | {option: setting for option, setting in shared.items() if option in ("limit", *own)}
    if group == "model":
        backbone, around = models.registered()[name], declared(models.create_model)
        own = declared(type(backbone), ("image_size",))
        own = {field: setting._replace(default=getattr(backbone, field)) for field, setting in own.items()}
        return own | {option: around[option] for option in models.MLP_SETTINGS}
    if group == "task":
        options = tasks.task_options(name)
        return {option: each for option, each in declared(tasks.registered()[name]).items() if option in options}
    return declared(OPTIMIZERS[name], ("weight_decay", "decay_vectors"))


def _rows(
    groups: Mapping[str, Mapping[str, Setting]], values: ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, Any, Setting]]:
    """The dotted name, the value and the declaration of each setting that `values` has."""
    for group, settings in groups.items():
        here, dotted = (values[group], f"{prefix}{group}.") if group else (values, prefix)
        for name, setting in settings.items():
            if isinstance(here.get(name), ConfigDict):
                parts = {part: setting._replace(type=type(each), default=each) for part, each in here[name].items()}
                yield from _rows({name: parts}, here, dotted)
            elif name in here:
                yield f"{dotted}{name}", here[name], setting


def _words(value: Any, setting: Setting) -> str:
    """The type and the value, and the default where there is no value."""
    default = f" (default: {_word(setting.default)})" if value is None and setting.default is not None else ""
    return f"{'any' if setting.type is object else setting.type.__name__:5}  {_word(value)}{default}"


def _word(value: Any) -> str:
    word = value.__name__ if isinstance(value, type) else repr(value)
    return word if len(word) < 60 else f"{word[:56]} ..."
