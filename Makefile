# make run    train and test a small age-group network on faces drawn by the program
# make test   run the tests, in two processes (WORKERS=1: in one)
# make soak   run those that take many minutes
# make lint   check style and format
# make clean  remove what these made

EXTRAS ?= test
PYTHON ?= python3
VENV := .venv
WORKERS ?= 2
INSTALLED := $(VENV)/installed-$(EXTRAS)

.PHONY: run test soak lint clean

run: $(INSTALLED)
	$(VENV)/bin/python -m ror_jax.main --config=configs/quickstart.py

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

soak: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m soak -s

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) runs *.egg-info .pytest_cache .ruff_cache
