"""Public functions take a folder as a text, too."""

import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.export import export
from ror_jax.models import load_model
from ror_jax.predict.model import load_model_card
from ror_jax.report.compare import compare
from ror_jax.report.runs import find_runs
from ror_jax.runs import run as runs
from ror_jax.runs import studies


def test_a_model_is_exported_and_loaded(run, tmp_path):
    output = str(tmp_path / "out")
    export(str(run()), output, licence="free")
    assert load_model_card(output)["name"] == "tiny_age_group"
    assert load_model(output)(np.zeros((1, 16, 16, 3), np.uint8))["age_group"].shape == (1, 8)


def test_runs_are_found_and_compared(run):
    assert [found.folder for found in find_runs(str(run().parent))[0]]
    assert compare(str(run()), str(run()))


@pytest.mark.parametrize("function", [runs.train_and_test, lambda *given: runs.evaluate_checkpoint(*given, "latest")])
def test_the_folder_of_another_run_is_refused(function, run, tiny_config):
    with pytest.raises(UserError, match="holds a run with other settings"):
        function(tiny_config(), str(run()))


def test_studies_begin_in_it(tiny_config, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(studies, "_run", lambda chains, *_: begun.extend(chains.values()))
    monkeypatch.setattr(studies, "is_first", lambda: False)
    studies.compare_losses(tiny_config(task__name="age_group"), str(tmp_path))
    assert begun and all(chain[-1].folder.parent == tmp_path for chain in begun)
