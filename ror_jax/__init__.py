"""Age, gender and other attributes from faces."""

__version__ = "0.3.0"


def load(model=None, **options):
    """Returns a model that reads faces: `load().predict(images)`.

    `model` is the name of a pretrained model, see `list_pretrained`, or a folder that `python -m ror_jax.export` made.
    See `ror_jax.predict.model.Model` for the options and for what it can do.
    """
    from ror_jax.predict.model import Model  # here, so that importing the package does not import JAX

    return Model(model, **options)


def list_pretrained():
    """Returns the pretrained models by name, see `ror_jax.models.zoo.Pretrained`."""
    from ror_jax.models import zoo

    return zoo.list_pretrained()
