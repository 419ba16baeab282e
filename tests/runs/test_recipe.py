"""Stages: what they share, what they change, where they lie."""

from pathlib import Path

import pytest

from configs.deep_ror import get_config
from ror_jax.errors import UserError
from ror_jax.runs.recipe import stages


def test_two_mechanisms_are_gender_and_then_age(tmp_path):
    gender, age = stages(get_config("preror58_sd,two_mechanisms"), tmp_path / "age")
    assert (gender.config.task.name, gender.config.task.weights) == ("gender", None)
    assert (age.config.task.name, age.config.task.weights) == ("age_group", "LW3")
    assert age.config.init_from == str(gender.folder) == str(tmp_path / "preror58_sd_gender")
    assert age.folder == tmp_path / "age" and gender.config.init_from is None
    assert gender.config.model == age.config.model and gender.config.epochs == age.config.epochs


def test_a_stage_is_the_recipe_of_its_row(tmp_path):
    """So that Table X's gender network is the first stage of Table XI's, and is trained once."""
    for fold in (None, 3):
        first, *_ = stages(get_config("preror58_sd,two_mechanisms"), tmp_path / "preror58_sd_two_mechanisms", fold)
        (alone,) = stages(get_config("preror58_sd,gender"), tmp_path / "preror58_sd_gender", fold)
        assert first == alone


def test_a_stage_begins_with_a_folder_whatever_it_is_called():
    """The folder of a stage may have the name of a pretrained model."""
    gender, age = stages(get_config("preror58_sd,two_mechanisms"), Path("faces_base"))
    assert gender.folder.name == str(gender.folder) and age.config.init_from == f"./{gender.folder}"


def test_what_has_no_fold_is_trained_once(tmp_path):
    of_folds = [stages(get_config("ror34_imdb_wiki,two_mechanisms"), tmp_path / "age", fold) for fold in (0, 4)]
    (years, gender, _), (same, other_gender, other_age) = of_folds
    assert years == same and years.folder == tmp_path / "imdb_wiki_ror34"
    assert years.config.init_from == "weights/ror34" and years.config.epochs == 120
    assert years.config.optimizer.decay_epochs == (60, 90) and years.config.task.name == "age_years"
    assert gender.folder == tmp_path / "ror34_imdb_wiki_gender" / "fold_0"
    assert other_age.folder == tmp_path / "age" / "fold_4" and other_age.config.dataset.fold == 4
    assert other_age.config.init_from == str(other_gender.folder)
    assert gender.config.init_from == str(years.folder) and gender.config.optimizer.learning_rate == 0.0001


def test_settings_of_the_command_line_reach_every_stage_that_does_not_change_them(tmp_path):
    config = get_config("ror34_imdb_wiki,two_mechanisms")
    config.seed, config.epochs = 7, 3
    config.stage.imdb_wiki.data_dir = "imdb"
    config.data_dir = "adience"
    years, gender, age = (stage.config for stage in stages(config, tmp_path / "age"))
    assert {years.seed, gender.seed, age.seed} == {7}
    assert (years.epochs, gender.epochs, age.epochs) == (120, 3, 3)
    assert (years.data_dir, gender.data_dir, age.data_dir) == ("imdb", "adience", "adience")


def test_a_stage_that_learns_something_else_takes_no_options_of_the_recipes_task(tmp_path):
    """Gender has no objective for ordered classes; IMDB-WIKI no folds, nor this label to sample by: all refused."""
    config = get_config("ror34_imdb_wiki,two_mechanisms")
    config.task.objective, config.data_dir, config.dataset.limit = "coral", "adience", 100
    config.stage.gender.epochs, config.sampling.label = 10, "age_group"
    years, gender, age = (stage.config for stage in stages(config, tmp_path / "age"))
    assert (years.task.objective, gender.task.objective, age.task.objective) == (None, None, "coral")
    assert (years.dataset.fold, years.dataset.protocol, years.dataset.limit, years.data_dir) == (None,) * 4
    assert (years.sampling.label, gender.sampling.label, age.sampling.label) == (None, None, "age_group")
    assert (gender.dataset, gender.data_dir) == (age.dataset, "adience")
    assert (years.epochs, gender.epochs, age.epochs) == (120, 10, 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ("gender", "smile")}, "no stage.smile .* there are: gender"),
        ({"stage": {"gender": {"name": "age"}}}, "two stages of preror58_sd_two_mechanisms would train in .*/age"),
    ],
)
def test_a_recipe_that_makes_no_sense(tmp_path, change, message):
    config = get_config("preror58_sd,two_mechanisms")
    with config.unlocked():
        config.update(change)
    with pytest.raises(UserError, match=message):
        stages(config, tmp_path / "age")
