"""Several tasks at once, from one network."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ror_jax import parallel
from ror_jax.errors import UserError
from ror_jax.outputs import Head, Trunk
from ror_jax.tasks.answers import Answer
from ror_jax.tasks.task import Arrays, Label, Task
from ror_jax.tasks.weighting import Weighting

RESERVED = {"losses", "outputs", "weighting"}  # beside the parts in the state, the estimates and the sums


@dataclasses.dataclass(frozen=True)
class MultiTask(Task):
    """Tasks by name, with one loss for all. An image counts for the parts of which it has a label.

    The results of a part are called PART_RESULT. Epochs are compared by the score of the first part.

    Attributes:
      parts: the tasks by name.
      weighting: makes one loss of theirs.

    Raises:
      UserError: parts share a label of different form, the name of a head or an answer, or that of different trunks;
        a part has a reserved name; or the weighting names a part that does not exist.
    """

    parts: Mapping[str, Task]
    weighting: Weighting = dataclasses.field(default_factory=Weighting)

    def __post_init__(self):
        if others := self.weighting.weights.keys() - self.parts.keys():
            raise UserError(f"weights of {', '.join(sorted(others))} are given; the parts are {', '.join(self.parts)}")
        if reserved := RESERVED & self.parts.keys():
            raise UserError(f"a part cannot be called {reserved.pop()!r}; that name is reserved")
        first: dict[str, tuple[str, Label]] = {}
        for name, part in self.parts.items():
            for key, label in part.labels.items():
                other, form = first.setdefault(key, (name, label))
                if form != label:
                    raise UserError(
                        f"tasks {other!r} and {name!r} take the label {key!r} as {_words(form)} and as {_words(label)}:"
                        " they cannot be learned at once"
                    )
        owners: dict[str, str] = {}
        for owner, task in [*self.parts.items(), ("weighting", None)]:
            for name in task.heads if task else self._own_heads:
                if owners.setdefault(name, owner) != owner:
                    raise UserError(f"{owners[name]!r} and {owner!r} both have a head {name!r}; a network has only one")
        trunks: dict[str, Trunk] = {}
        for part in self.parts.values():
            for name, trunk in part.trunks.items():
                if trunks.setdefault(name, trunk) != trunk:
                    raise UserError(f"the parts have different trunks {name!r}; give one of them another name")

    @property
    def _own_heads(self) -> dict[str, Head]:
        return self.weighting.heads(self.parts)

    @property
    def labels(self) -> dict[str, Label]:
        return _merged(part.labels for part in self.parts.values())

    @property
    def heads(self) -> dict[str, Head]:
        return _merged(part.heads for part in self.parts.values()) | self._own_heads

    @property
    def trunks(self) -> dict[str, Trunk]:
        return _merged(part.trunks for part in self.parts.values())

    @property
    def primary(self) -> str:
        name, part = next(iter(self.parts.items()))
        return f"{name}_{part.primary}"

    @property
    def plotted(self) -> tuple[str, ...]:
        return tuple(f"{name}_{part.primary}" for name, part in self.parts.items())

    @property
    def loss_name(self) -> str:
        return " + ".join(f"{part.loss_name} of {name}" for name, part in self.parts.items())

    @property
    def loss_may_be_negative(self) -> bool:
        return self.weighting.loss_may_be_negative or any(part.loss_may_be_negative for part in self.parts.values())

    @property
    def needs_validation(self) -> bool:
        return self.weighting.needs_losses or any(part.needs_validation for part in self.parts.values())

    def initial_state(self) -> dict:
        """The state of each part by name, and that of the `weighting`."""
        state = {name: part.initial_state() for name, part in self.parts.items()}
        return state | {"weighting": self.weighting.initial_state(self.parts)}

    def loss(self, outputs: Arrays, batch: Arrays, state: dict, step: jax.Array) -> tuple[jax.Array, dict]:
        weights = self.weighting.weights
        losses = {
            name: weights.get(name, 1.0) * part.loss(outputs, batch, state[name], step)[0]
            for name, part in self.parts.items()
        }
        known = {name: batch["mask"] * part.known(batch) for name, part in self.parts.items()}
        return self.weighting.combine(losses, self.parts, outputs, known, state["weighting"]), losses

    def decode(self, outputs: Arrays, mirrored: tuple[bool, ...]) -> dict:
        estimates = {name: part.decode(outputs, mirrored) for name, part in self.parts.items()}
        if self.weighting.needs_losses:
            estimates["outputs"] = {name: output[:, 0] for name, output in outputs.items()}
        return estimates

    def measure(self, estimates: dict, batch: Arrays, state: dict) -> dict:
        """The sums of each part by name; where the weighting needs them, also the parts' `losses`."""
        sums = {name: part.measure(estimates[name], batch, state[name]) for name, part in self.parts.items()}
        if self.weighting.needs_losses:
            sums["losses"] = {}
            for name, part in self.parts.items():
                count = parallel.total((batch["mask"] * part.known(batch)).sum())
                loss, _ = part.loss(estimates["outputs"], batch, state[name], jnp.int32(0))
                sums["losses"][name] = {"sum": parallel.total(loss) * count, "count": count}
        return sums

    def summarize(self, sums: dict) -> dict[str, Any]:
        """The results of all parts, and `images`, the largest number of images that a part counted."""
        results = {name: part.summarize(sums[name]) for name, part in self.parts.items()}
        named = {
            f"best_{name}_{key.removeprefix('best_')}" if key.startswith("best_") else f"{name}_{key}": value
            for name, part in results.items()
            for key, value in part.items()
        }
        return named | {"images": max(part.get("images", 0) for part in results.values())}

    def update(self, state: dict, sums: dict, epoch: float) -> dict:
        new = {name: part.update(state[name], sums[name], epoch) for name, part in self.parts.items()}
        if not self.weighting.needs_losses:
            return new | {"weighting": state["weighting"]}
        found = sums["losses"]
        losses = {name: float(found[name]["sum"] / found[name]["count"]) for name in self.parts if found[name]["count"]}
        return new | {"weighting": self.weighting.update(state["weighting"], losses, epoch)}

    def answers(self, estimates: dict, state: dict) -> dict[str, Answer]:
        """Those of all parts; what one of them derives from its answer gives way to an answer of that name."""
        found: dict[str, Answer] = {}
        for name, part in self.parts.items():
            for key, answer in part.answers(estimates[name], state[name]).items():
                if key not in found or found[key].derived:
                    found[key] = answer
                elif not answer.derived:
                    raise UserError(f"two tasks answer with {key!r}, one of them {name!r}; leave one of them out")
        return found

    def truth(self, batch: Arrays) -> dict:
        return _merged(part.truth(batch) for part in self.parts.values())

    def score(self, results: Mapping[str, Any]) -> float:
        name, part = next(iter(self.parts.items()))
        return part.score(self.results_of(name, results))

    def line(self, results: Mapping[str, Any]) -> str:
        """The main results of the parts that counted an image."""
        own = {name: self.results_of(name, results) for name in self.parts}
        return "; ".join(f"{name} {self.parts[name].line(found)}" for name, found in own.items() if found["images"])

    def results_of(self, name: str, results: Mapping[str, Any]) -> dict[str, Any]:
        """A part's results by its own names."""
        own = {key.removeprefix(f"{name}_"): value for key, value in results.items() if key.startswith(f"{name}_")}
        best = f"best_{name}_"
        return own | {f"best_{key.removeprefix(best)}": value for key, value in results.items() if key.startswith(best)}

    def check_validation(self, labels: Callable[[list[str]], Arrays]) -> None:
        for part in self.parts.values():
            if part.needs_validation:
                part.check_validation(labels)

    def first_biases(self, labels: Callable[[list[str]], Arrays]) -> dict:
        return _merged(part.first_biases(labels) for part in self.parts.values())

    def constant_baseline(self, labels: Callable[[list[str]], Arrays]) -> dict | None:
        found = {name: part.constant_baseline(labels) for name, part in self.parts.items()}
        if self.weighting.needs_losses or any(estimates is None for estimates in found.values()):
            return None
        return found


def _merged(mappings: Iterable[Mapping]) -> dict:
    return {key: value for mapping in mappings for key, value in mapping.items()}


def _words(label: Label) -> str:
    names = f" with {len(label.names)} names" if label.names else ""
    return f"{jnp.dtype(label.dtype)} {list(label.shape)}{names}"
