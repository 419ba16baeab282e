"""Tasks that are learned at once: one loss of several, labels that are missing, weightings, clashes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ror_jax import tasks
from ror_jax.errors import UserError
from ror_jax.outputs import Head, Pool
from ror_jax.tasks import Label, MultiTask, Task, Weighting, create_task, register, task_labels
from ror_jax.tasks.task import state_from_json, state_to_json, sums_shapes

LABELS = {"age_group": ("0-2", "4-6", "8-13"), "gender": ("female", "male"), "age": tuple(map(str, range(101)))}
BATCH = {
    "age_group": jnp.array([0, 1, 2, -1]),
    "gender": jnp.array([0, -1, 1, 1]),
    "mask": jnp.array([1.0, 1, 1, 0]),
}
OUTPUTS = {
    name: jnp.array(np.random.default_rng(0).normal(size=(4, k))) for name, k in (("age_group", 3), ("gender", 2))
}
VIEWS = {name: output[:, None] for name, output in OUTPUTS.items()}


def both(**options):
    return create_task("age_group+gender", LABELS, **options)


def test_the_loss_is_the_weighted_sum_of_the_parts():
    """Each counts the images that have its label, whatever the others have."""
    task = both(loss_weights=(2, 0.5))
    value, parts = task.loss(OUTPUTS, BATCH, task.initial_state(), 0)
    groups, _ = create_task("age_group", LABELS).loss(OUTPUTS, BATCH, {}, 0)
    genders, _ = create_task("gender", LABELS).loss(OUTPUTS, BATCH, {}, 0)
    assert parts == {"age_group": 2 * groups, "gender": 0.5 * genders}
    assert float(value) == pytest.approx(float(2 * groups + 0.5 * genders), rel=1e-6)


def test_results_are_those_of_the_parts():
    task = both()
    estimates = task.decode(VIEWS, (False,))
    results = task.summarize(jax.device_get(task.measure(estimates, BATCH, task.initial_state())))
    for name, label in (("age_group", "exact"), ("gender", "accuracy")):
        part = create_task(name, LABELS)
        alone = part.summarize(jax.device_get(part.measure(part.decode(VIEWS, (False,)), BATCH, {})))
        assert {key: results[f"{name}_{key}"] for key in alone} == alone
        assert f"{name} {label}" in task.line(results)
    assert results["images"] == 3 and task.score(results) == results["age_group_exact"]
    assert set(task.answers(estimates, task.initial_state())) == {"age_group", "gender"}
    assert task.known(BATCH).tolist() == [True, True, True, True]
    assert task_labels("age_group+gender") == ("age_group", "gender")


def test_options_go_to_the_part_that_has_them():
    task = both(objective="coral", threshold=0.3)
    assert task.parts["age_group"].objective == "coral" and task.parts["gender"].threshold == 0.3
    weighted = both(weights=(1, 2, 3))  # both have it: the first takes it
    assert [tuple(part.weights) for part in weighted.parts.values()] == [(1, 2, 3), (1, 1)]


def test_uncertainty_is_one_more_head():
    """With variances of 1 the loss is that of the parts, half of it where errors are squared or absolute."""
    task = create_task("age_regression+gender", LABELS, weighting="uncertainty")
    assert task.heads["log_variances"] == Head(2, trunk=None) and task.loss_may_be_negative
    outputs = {"age": jnp.full((4, 1), 30.0), "gender": OUTPUTS["gender"], "log_variances": jnp.zeros((4, 2))}
    batch = BATCH | {"age": jnp.array([25.0, -1, 40, 20])}
    value, parts = task.loss(outputs, batch, task.initial_state(), 0)
    assert float(value) == pytest.approx(float(parts["age_regression"] / 2 + parts["gender"]), rel=1e-6)


@dataclasses.dataclass(frozen=True)
class Trend(Weighting):
    """Weights that grow with the loss on validation."""

    needs_losses = True

    def initial_state(self, parts):
        return {name: jnp.float32(1) for name in parts}

    def combine(self, losses, parts, outputs, known, state):
        return sum(state[name] * loss for name, loss in losses.items())

    def update(self, state, losses, epoch):
        return {name: np.float32(losses[name] * epoch) for name in state}


def test_a_weighting_that_learns_from_validation():
    """It is given the mean loss of each part over the images of all batches that have its label."""
    task = MultiTask({name: create_task(name, LABELS) for name in ("age_group", "gender")}, Trend())
    assert task.needs_validation
    state = task.initial_state()
    halves = [{name: values[part] for name, values in BATCH.items()} for part in (slice(0, 2), slice(2, 4))]
    estimates = [
        task.decode({name: view[part] for name, view in VIEWS.items()}, (False,)) for part in (slice(0, 2), slice(2, 4))
    ]
    sums = [task.measure(*each, state) for each in zip(estimates, halves, strict=True)]
    total = jax.device_get(jax.tree.map(lambda *parts: sum(parts), *sums))
    new = task.update(state, total, 3.0)
    for name in task.parts:
        loss, _ = task.parts[name].loss(OUTPUTS, BATCH, {}, 0)
        assert new["weighting"][name] == pytest.approx(3 * float(loss), rel=1e-5)
    value, parts = task.loss(OUTPUTS, BATCH, new, 0)
    expected = sum(float(new["weighting"][name]) * float(parts[name]) for name in parts)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert sums_shapes(task)["losses"].keys() == task.parts.keys()


def test_the_state_goes_through_json():
    task = create_task("age_gender", LABELS, threshold="validation")
    state = task.initial_state() | {"gender": {"threshold": jnp.float32(0.25)}}
    saved = state_to_json(state)
    assert saved == {"gender.threshold": 0.25}
    assert state_from_json(task, saved)["gender"]["threshold"] == 0.25
    assert state_from_json(task, {"gender.threshold": [0.1, 0.2]}, strict=False)["gender"]["threshold"] == 0.5
    for wrong, words in (([0.1, 0.2], r"has the shape \(2,\)"), ("high", "is no array"), ([[1], 2], "is no array")):
        with pytest.raises(UserError, match=f"gender.threshold {words}"):
            state_from_json(task, {"gender.threshold": wrong})


@dataclasses.dataclass(frozen=True)
class Other(type(create_task("gender", LABELS))):
    """Takes the label gender as two flags."""

    @property
    def labels(self):
        return {"gender": Label((2,))}


@dataclasses.dataclass(frozen=True)
class Trunked(type(create_task("gender", LABELS))):
    """Reads a trunk of its own."""

    head: str = ""
    level: int = 1

    @property
    def heads(self):
        return {self.head: Head(2, trunk="pool")}

    @property
    def trunks(self):
        return {"pool": Pool(levels=(self.level,))}


def trunked(head, level):
    return Trunked(LABELS["gender"], head=head, level=level)


def test_parts_share_a_trunk():
    task = MultiTask({"a": trunked("one", 2), "b": trunked("two", 2)})
    assert task.trunks == {"pool": Pool(levels=(2,))} and set(task.heads) == {"one", "two"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiTask({"a": both().parts["gender"], "b": Other(LABELS["gender"])}), "'a' and 'b' take.*'gender'"),
        (lambda: create_task("age_group+older_than", LABELS, group=1), "both have a head 'age_group'"),
        (lambda: create_task("gender+gender", LABELS), "names a task twice"),
        (lambda: create_task("gender+age_grup", LABELS), "unknown task 'age_grup'; did you mean 'age_group'"),
        (lambda: both(weighting="learned"), "unknown weighting 'learned'"),
        (lambda: both(loss_weights=(1,)), "a number for each of age_group, gender"),
        (lambda: both(loss_weights=(0, 0)), "nothing is learned"),
        (lambda: both(loss_weights=1.0), "are 1.0; there must be a number for each"),
        (lambda: create_task("gender+", LABELS), "task 'gender\\+': a name is missing"),
        (lambda: MultiTask({"losses": both()}), "cannot be called 'losses'"),
        (lambda: MultiTask({"a": trunked("one", 1), "b": trunked("two", 2)}), "different trunks 'pool'"),
        (lambda: register("x", 3, ["gender"]), "takes a class or function"),
        (lambda: register("x", Other, "gender"), "a list of keys"),
        (lambda: create_task("gender", LABELS, weighting="fixed"), "age_group\\+gender"),
        (lambda: MultiTask({"a": create_task("gender", LABELS)}, Weighting({"b": 1.0})), "weights of b are given"),
        (lambda: register("gender", Task, ["gender"]), "'gender': that name is taken"),
        (lambda: register("a+b", Task, ["gender"]), "it has a \\+"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_two_tasks_that_answer_with_one_name():
    """The group that follows from an age in years gives way to a group that is learned."""
    task = create_task("age_years+age_group", LABELS | {"age_group": ("0-2",) * 8})
    outputs = {name: jnp.zeros((1, 1, head.size)) for name, head in task.heads.items()}
    answers = task.answers(task.decode(outputs, (False,)), task.initial_state())
    assert not answers["age_group"].derived and answers["age_group"].names == ("0-2",) * 8


@dataclasses.dataclass(frozen=True)
class Careless(type(create_task("gender", LABELS))):
    """Reads an output and a label that it has not declared."""

    wrong: str = "head"

    def loss(self, outputs, batch, state, step):
        return (outputs["gendre"] if self.wrong == "head" else batch["gendre"]).sum(), {}


@pytest.mark.parametrize("wrong", ["head", "label"])
def test_what_is_not_declared(wrong):
    with pytest.raises(UserError, match=f"not declared: unknown {wrong} 'gendre'; did you mean 'gender'"):
        sums_shapes(Careless(LABELS["gender"], wrong=wrong))


@dataclasses.dataclass(frozen=True)
class Misfit(type(create_task("gender", LABELS))):
    """Has a loss that fails on its own shapes, or calls its answer what every face has."""

    wrong: str = "shape"

    def loss(self, outputs, batch, state, step):
        added = jnp.zeros(3) if self.wrong == "shape" else 0
        return (outputs["gender"] + added).sum(), {}

    def answers(self, estimates, state):
        return {"score": super().answers(estimates, state)["gender"]}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("shape", "does not fit the shapes of its own heads and labels"),
        ("name", "cannot be called 'score'"),
    ],
)
def test_what_does_not_fit_itself(wrong, words):
    with pytest.raises(UserError, match=words):
        sums_shapes(Misfit(LABELS["gender"], wrong=wrong))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda names: 3, "is none"),
        (lambda names, more: None, "cannot be created"),
        (type("Half", (Task,), {}), "cannot be created"),
        (lambda names: trunked("one", 2), "learns gender, but is registered for age_group"),
    ],
)
def test_what_is_registered_must_make_a_task(make, words, monkeypatch):
    monkeypatch.setattr("ror_jax.tasks._TASKS", dict(tasks._TASKS))
    register("mine", make, ["age_group"])
    with pytest.raises(UserError, match=f"task 'mine' {words}"):
        create_task("mine", LABELS)


def test_more_classes_than_the_data_has(monkeypatch):
    monkeypatch.setattr("ror_jax.tasks._TASKS", dict(tasks._TASKS))

    @dataclasses.dataclass(frozen=True)
    class Three(type(create_task("gender", LABELS))):
        @property
        def labels(self):
            return {"gender": Label(names=("a", "b", "c"))}

    register("three", Three, ["gender"])
    with pytest.raises(UserError, match="task 'three' has 3 classes of 'gender', but the data has 2"):
        create_task("three", LABELS)
