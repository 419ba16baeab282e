"""`python -m ror_jax.convert` under its former name."""

from ror_jax.convert import main

if __name__ == "__main__":
    main()
