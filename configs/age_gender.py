"""Age in years and gender at once, with the multi-task article's network and recipe: BACKBONE,WORD,...

    python -m ror_jax.main --config=configs/age_gender.py:convnext_tiny --config.data_dir=FACES.csv
    python -m ror_jax.main --config=configs/age_gender.py:ror34 --config.data_dir=FACES.csv
    python -m ror_jax.main --config=configs/age_gender.py --list    # the article's rows, with what it publishes

`convnext_tiny`, the default, `efficientnet_b0` and `resnet18` are the article's; any other of `list_models()` can take
their place. FACES.csv has the columns id, full_path, gender and age, as `configs/faces_csv.py` says. The words:

    adience, imdb_wiki   these data instead; of Adience fold 0, ages being the middles of its age groups
    rendered_faces       faces that the program draws
    pretrained           begin with the weights in weights/BACKBONE, as ror_jax/convert.py makes them
    smoke                the same, small, in minutes on a laptop

D. Patel, "Multi-Task Deep Learning for Age and Gender Prediction: From Baseline to 0.82 Kaggle Score". It gives
network, loss, optimiser and learning rates; epochs, batch size, rate of dropout, width of the age bins and the strength
of the augmentation it does not: those are ours.
"""

from ror_jax.config import default_config
from ror_jax.config_argument import parse_argument
from ror_jax.errors import UserError
from ror_jax.models import list_models
from ror_jax.models.families import MODELS as RESIDUAL

DATASETS = {
    "faces_csv": {"whole_image": True},
    "adience": {"fold": 0},  # its images are squares, as are those that are drawn
    "imdb_wiki": {"whole_image": True},
    "rendered_faces": {},
}


def get_config(argument: str = ""):
    words = parse_argument(argument, backbone=list_models(), dataset=DATASETS, pretrained=bool, smoke=bool)
    if words.pretrained and words.smoke:
        raise UserError("smoke makes the network small: pretrained weights do not fit it; leave one of the two out")
    backbone = words.backbone or "convnext_tiny"
    chosen = (words.dataset, words.pretrained and "pretrained", words.smoke and "smoke")
    config = default_config()
    config.name = "_".join(["age_gender", backbone, *filter(None, chosen)])
    config.row = f"age_gender:{backbone},pretrained"
    dataset = words.dataset or "faces_csv"
    config.dataset.update({"name": dataset, **DATASETS[dataset]})
    config.model.name = backbone
    config.model.dtype = "bfloat16"
    config.task.name = "age_gender"
    if words.pretrained:
        config.init_from = f"weights/{backbone}"

    # Section 4: whole faces at 224 pixels, and what changes them.
    config.image_size = config.resize = 224
    config.fit, config.augmentation = "pad", "center"
    config.jitter.shift_scale_rotate = 0.5
    config.jitter.brightness_contrast = 0.5
    config.jitter.hue_saturation = 0.3
    config.jitter.noise = 0.2
    config.jitter.blur = 0.2
    config.normalize_by = "imagenet"

    config.sampling.label = "age"  # section 5
    config.model.mlp_widths, config.model.mlp_dropout = (512, 256), 0.3  # section 6
    config.task.weights = (1.0, 1.1)  # section 8

    # Section 9
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-4 if backbone.startswith("resnet") else 1.5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 5e-5
    config.optimizer.clip_norm = 1.0
    config.epochs = 30
    config.batch_size = 64

    config.views = "flip"  # section 13
    if words.smoke:
        _shrink(config)
    return config


def _shrink(config):
    """The same, small. From scratch, and few images make few steps: the learning rate is larger."""
    config.dataset.resolution = 72
    config.image_size = config.resize = 64
    small = f"small_{config.model.name.partition('_')[0]}"
    if config.model.name in RESIDUAL:
        widths = RESIDUAL[config.model.name].widths
        config.model.blocks_per_group, config.model.widths = (2,) * len(widths), (16, 32, 64, 128)[-len(widths) :]
    elif small in list_models():
        config.model.name = small
    config.model.dtype = None
    config.optimizer.learning_rate = 1e-3
    config.batch_size = 32
