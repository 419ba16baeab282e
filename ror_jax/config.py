"""Every setting of a run, with its default. A file in `configs/` starts from here and changes what it means."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def default_config() -> ConfigDict:
    """The settings of Deep-RoR's training from scratch (section IV.A); a config file names data, model and task.

    A `placeholder` is a setting that the data set, model or task has a default for; leave it out and that holds.
    """
    config = ConfigDict()

    config.name = ""  # of the run; its folder is runs/NAME unless --workdir says otherwise
    config.row = placeholder(str)  # FILE:ROW, the experiment of a paper that this is; see `ror_jax.report`
    config.seed = 0  # of parameters, order of images, augmentation, stochastic depth
    config.deterministic = False  # the same numbers each time on a GPU, too, by slower algorithms; elsewhere always
    config.init_from = placeholder(str)  # folder of weights to start from, as tools/convert_torchvision.py makes it
    # A recipe trains these stages before itself, in this order, each from the weights of the one before it. What sets
    # NAME apart is `stage.NAME`, see `stage_config`; its folder is beside the recipe's, under the stage's own name.
    config.stages = ()
    config.stage = ConfigDict()
    config.data_dir = placeholder(str)  # folder with the data set's own files
    config.allow_changed_data = False  # go on with a run although its images or labels are other ones now
    config.cache_dir = "~/.cache/ror_jax"  # prepared data sets and compiled programs

    config.dataset = dataset = ConfigDict()
    dataset.name = ""
    dataset.fold = placeholder(int)  # faces: the fold to test on, 0 ... 4; the others train
    dataset.validation = placeholder(float)  # faces: the share of the subjects that train to hold out for validation
    dataset.protocol = placeholder(str)  # adience: "levi" or "all"
    dataset.mid_ages = placeholder(bool)  # adience: take the middle of a span for the age; else spans have none
    dataset.people = placeholder(int)  # rendered_faces
    dataset.pictures_per_person = placeholder(int)  # rendered_faces
    dataset.resolution = placeholder(int)  # faces: pixels a side of the stored images
    dataset.whole_image = placeholder(bool)  # faces_csv, imdb_wiki: store the whole image, not its central square
    dataset.align = placeholder(
        bool
    )  # faces_csv: cut the largest face of an image out, upright; whatever whole_image says
    dataset.test_share = placeholder(float)  # faces_csv, imdb_wiki: the share to test on where no file says which
    dataset.by_person = placeholder(bool)  # faces_csv, imdb_wiki: that share is one of the people, not of the images
    dataset.split_seed = placeholder(int)  # faces_csv, imdb_wiki: it decides which
    dataset.min_face_score = placeholder(float)  # imdb_wiki: of the face detector, to keep an image
    dataset.max_second_face_score = placeholder(float)  # imdb_wiki: by default a second face of any score is too much
    dataset.need_gender = placeholder(bool)  # imdb_wiki: keep no image without
    dataset.min_size = placeholder(int)  # imdb_wiki: pixels of the shorter side of an image to keep
    dataset.extra = placeholder(bool)  # svhn: train on its `extra` images too
    dataset.classes = placeholder(int)  # imagenet: how many there must be; 0: any number
    dataset.limit = placeholder(int)  # images of each split, for a quick look

    config.image_size = 224  # pixels a side, as the network sees them
    config.augmentation = "scale_and_aspect"  # or "scale", "pad_and_crop"; "center": as a test image; "none": no flip
    config.min_area = 0.08  # of the image, that a random crop of "scale_and_aspect" or "scale" keeps
    config.flip = 0.5  # probability of mirroring a training image, with any augmentation but "none"
    config.resize = placeholder(int)  # side of a test image before its centre is cut out; default: 256 for 224
    config.fit = "crop"  # that is its shorter side; "pad": the longer one, and a border makes it a square
    config.views = "single"  # of a test image: its centre; or "flip", "five_crop", "ten_crop"; probabilities averaged
    # Keep all images, of one size, on the accelerator and augment them there, by other random numbers than on the host.
    config.data_on_device = False
    config.steps_per_call = 1  # of training, in one call of the accelerator: for small networks, with data_on_device
    config.workers = -1  # processes that decode and augment; 0: threads of this one; -1: 0 on CPU, else half the cores

    # What becomes of a training image then, in this order, on the host; see `input_pipeline.jitter`. Amounts are drawn
    # up to these, and down to minus these.
    config.jitter = jitter = ConfigDict()
    jitter.shift_scale_rotate = 0.0  # probability
    jitter.shift = 0.0625  # share of the side, right and down
    jitter.scale = 0.1  # share of the size
    jitter.rotation = 15.0  # degrees
    jitter.brightness_contrast = 0.0  # probability
    jitter.brightness = 0.2  # share of 255 levels
    jitter.contrast = 0.2  # share of the distance from the mean level
    jitter.hue_saturation = 0.0  # probability
    jitter.hue = 10.0  # degrees
    jitter.saturation = 0.2  # share of it
    jitter.value = 0.2  # share of the brightest channel
    jitter.noise = 0.0  # probability
    jitter.noise_std = 10.0  # levels, from 0 on
    jitter.blur = 0.0  # probability
    jitter.blur_sigma = 1.5  # pixels, from 0 on

    config.sampling = sampling = ConfigDict()
    sampling.label = placeholder(str)  # draw images by the inverse frequency of it ("age"); None: each once an epoch
    sampling.bin_width = 5.0  # years, of ages; of other labels every class is a bin

    config.model = model = ConfigDict()
    model.name = ""
    model.mlp_widths = placeholder(tuple)  # of hidden layers between the backbone and all outputs; default: none
    model.mlp_dropout = placeholder(float)
    model.levels = placeholder(int)
    model.shortcut_types = placeholder(tuple)
    model.blocks_per_group = placeholder(tuple)
    model.widths = placeholder(tuple)
    model.survival = placeholder(float)
    model.drop_path = placeholder(str)
    model.dropout = placeholder(float)
    model.new_shortcut_init = placeholder(str)
    model.remat = placeholder(bool)  # less memory for more arithmetic
    model.unroll = placeholder(bool)  # equal blocks one after the other instead of in a loop
    model.dtype = placeholder(str)  # "float32" or "bfloat16"
    model.param_dtype = placeholder(str)

    config.task = task = ConfigDict()
    task.name = ""
    task.weights = placeholder(object)  # "LW0" ... "LW3", or a number for each class
    task.normalize_by = placeholder(str)
    task.objective = placeholder(str)  # age_group, age_years: the loss, "cross_entropy", "ladder", "coral", "corn" ...
    task.sigma = placeholder(float)  # width of the objective "label_distribution", in classes
    task.age_weight = placeholder(float)  # age_gender: of the loss of age
    task.gender_weight = placeholder(float)  # age_gender: of the loss of gender
    task.age_scale = placeholder(float)  # age_gender: years that the loss counts as 1
    task.balance = placeholder(str)  # age_gender: "fixed" or "uncertainty", how the two losses are weighed
    task.threshold = placeholder(object)  # age_gender: the probability above which a face is male, or "validation"
    task.group = placeholder(int)  # older_than: than which group, 1 ... 7

    config.normalize_by = "data"  # or "imagenet": whose pixels' mean and deviation; of init_from, those of its weights
    config.epochs = 164  # 0: only test, such as weights of init_from
    config.batch_size = 64  # over all devices
    config.test_batch_size = 64
    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "sgd"  # or "adamw"
    optimizer.learning_rate = 0.1
    optimizer.schedule = "step"  # or "cosine", which falls to 0 until the end
    optimizer.warmup_epochs = 0.0  # in which the learning rate rises from 0
    optimizer.decay_epochs = (80, 122)  # "step": after these the learning rate is multiplied by decay_factor
    optimizer.decay_factor = 0.1
    optimizer.momentum = placeholder(float)  # sgd
    optimizer.nesterov = placeholder(bool)  # sgd
    optimizer.beta1 = placeholder(float)  # adamw
    optimizer.beta2 = placeholder(float)  # adamw
    optimizer.weight_decay = 1e-4
    optimizer.decay_vectors = True  # weight decay on BN parameters and biases too, as in Torch
    optimizer.clip_norm = placeholder(float)  # the largest norm of all gradients together
    optimizer.rates = rates = ConfigDict()  # times the learning rate, for parts of the network
    rates.backbone = rates.mlp = rates.heads = 1.0
    optimizer.frozen = ()  # names of parts that are not trained, such as "backbone.stem"

    # After so many epochs without a better result on the images for validation, which there must be, training ends.
    config.early_stopping = early_stopping = ConfigDict()
    early_stopping.patience = placeholder(int)  # epochs; default: train to the end
    # A result by name, such as "rmse"; by default what epochs are compared by, and the best checkpoint always is.
    early_stopping.metric = placeholder(str)
    early_stopping.min_epochs = 0  # no sooner than this: the first epochs may be all ups and downs

    # A step is bad if its loss, gradients, new parameters or batch statistics are not finite, or as is said here.
    config.guard = guard = ConfigDict()
    guard.max_skips = 0  # bad steps in a row that are left out, schedule and all; the next one ends the run
    guard.loss_spike = placeholder(float)  # a loss of more than so many times its running mean is bad
    guard.max_batch_stat = 1e10  # a running mean or variance of more than this is bad

    config.mesh = mesh = ConfigDict()
    mesh.data = -1  # copies of parameters and optimiser state; -1: as many as there are devices for
    mesh.model = 1  # devices that share a copy (FSDP). A batch is divided over all data x model devices

    config.test_every = 1  # epochs
    config.test_every_steps = placeholder(int)  # and so often within an epoch
    config.log_every = 20  # steps between lines of metrics.jsonl within an epoch, rounded up to whole calls
    config.checkpoint_minutes = 10.0  # within long epochs; the end of every epoch is saved anyway
    config.profile = False  # trace a few steps of this start for TensorBoard and Perfetto, in the run's folder
    config.closing_words = ""  # printed when all is done
    return config.lock()


def stage_config(**settings: Any) -> ConfigDict:
    """What sets a stage apart from its recipe: these settings, by name; all others, None, are those of the recipe.

    A stage with a `task.name` or `dataset.name` of its own takes nothing of the recipe's task, or data set and
    `data_dir`, nor of its `sampling` or `early_stopping.metric`: their options would make no sense there.
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
