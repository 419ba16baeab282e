"""Age, gender and other attributes from faces."""

__version__ = "0.2.0"


def load(folder, **options):
    """The model in a folder that `python -m ror_jax.export` made: `load(folder).predict(images)`.

    See `ror_jax.predict.model.Model` for the options and for what it can do.
    """
    from ror_jax.predict.model import Model  # here, so that who wants less of this package need not wait for JAX

    return Model(folder, **options)
