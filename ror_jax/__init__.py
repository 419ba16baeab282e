"""Age, gender and other attributes from faces."""

__version__ = "0.3.0"


def load(model=None, **options):
    """A model that reads faces: `load().predict(images)`.

    `model` is the name of a pretrained model, see `list_pretrained`, or a folder that `python -m ror_jax.export` made.
    See `ror_jax.predict.model.Model` for the options and for what it can do.
    """
    from ror_jax.predict.model import Model  # here, so that who wants less of this package need not wait for JAX

    return Model(model, **options)


def list_pretrained():
    """The pretrained models by name, see `ror_jax.models.zoo.Pretrained`."""
    from ror_jax.models import zoo

    return zoo.list_pretrained()
