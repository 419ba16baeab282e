"""Several runs of one recipe that differ in one setting, and what follows from all of them together."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from ror_jax.errors import UserError
from ror_jax.files import read_json, replace_json, replace_text
from ror_jax.report.figures import draw
from ror_jax.report.panels import save_page
from ror_jax.report.summary import SHOWN_CLASSES
from ror_jax.runs.aging_curve import answerable, propose_weights
from ror_jax.runs.cross_validation import pool
from ror_jax.runs.experiment import open_task
from ror_jax.runs.recipe import Stage, stages
from ror_jax.runs.run import check_stages, complete
from ror_jax.tasks.losses import LOSS_WEIGHTS, OBJECTIVES
from ror_jax.tasks.metrics import metric as named
from ror_jax.training.distributed import is_first
from ror_jax.training.stopping import Stopped, stop_signals

TOO_GOOD = "These are results on the test images: what is chosen by them must be tested on others."


def cross_validate(config: ConfigDict, workdir: Path | str, folds: Sequence[int] | None = None) -> None:
    """Trains and tests on each of `folds`, or all, in `workdir/fold_N`; says what all that are done give on average.

    Stages whose data have no folds are trained once. Folds that have been done are not done again.
    """
    workdir = Path(workdir)
    if config.dataset.fold is None:
        raise UserError(f"{config.name} has no folds: dataset.fold is not set")
    folds = open_task(config)[0].folds if folds is None else folds
    if not folds or len(set(folds)) < len(folds):
        raise UserError(f"folds {', '.join(map(str, folds)) or '(none)'}: name each fold to test on once")
    before = [int(path.parent.name.removeprefix("fold_")) for path in workdir.glob("fold_[0-9]*/summary.json")]
    chains = {f"fold {fold}": stages(config, workdir, fold) for fold in sorted({*folds, *before})}
    _run(chains, config.mesh.data)
    if not is_first():
        return
    for number, stage in enumerate(next(iter(chains.values()))):
        if stage.config.dataset.fold is None:
            continue
        pooled = pool({label: _summary(chain[number].folder) for label, chain in chains.items()})
        folder = stage.folder.parent
        replace_json(folder / "cross_validation.json", pooled)
        title = f"{stage.config.name}: {len(chains)} folds, pooled"
        for name, found in pooled["classes"].items():
            data = {"counts": found["confusion"], "names": found["names"]}
            draw("confusion", f"{name.replace('_', ' ')}, {title}", folder / f"{name}_confusion.png", data)
        pictures = "".join(f"{name}_confusion.png, " for name in pooled["classes"])
        print("\n".join([title, *_lines(pooled)]))
        print(f"Left in {folder}: {pictures}cross_validation.json, and a folder for each fold")


def aging_curve(config: ConfigDict, workdir: Path | str) -> None:
    """Trains "older than group k?" for every k, and draws Deep-RoR's Figure 4; see `propose_weights` for the weights.

    A question that the training or the test images answer in one way only is left out.
    """
    config, workdir = config.copy_and_resolve_references(), Path(workdir)
    config.task.update({"name": "age_group", "weights": None, "objective": None, "sigma": None})
    dataset, task = open_task(config)
    names = task.names
    groups, left_out = answerable(len(names), (dataset.train, dataset.test))
    for group in left_out:
        print(f"Left out: older than {names[group - 1]}? All training images, or all test images, give one answer.")
    if not groups:
        raise UserError("the images for training or testing are all of one age group: there is no curve to draw")

    config.task.name = "older_than"
    network = (config.row or "").rpartition(",")[0]
    chains = {}
    for group in groups:
        config.task.group = group
        config.row = f"{network},older_than_{group}" if network.startswith("deep_ror:") else None
        chains[f"older than {names[group - 1]}"] = stages(config, workdir / f"older_than_{group}")
    _run(chains, config.mesh.data)
    if not is_first():
        return
    results = {group: _summary(chain[-1].folder)["test"] for group, chain in zip(groups, chains.values(), strict=True)}
    curves = {
        "accuracy": {group: result["accuracy"] for group, result in results.items()},
        "mean of both recalls": {group: np.mean([*result["recall"].values()]) for group, result in results.items()},
        "always the same answer": {group: result["majority_rate"] for group, result in results.items()},
    }
    weights = propose_weights(curves["mean of both recalls"], len(names))
    replace_json(workdir / "aging_curve.json", {"classes": names, "curves": curves, "proposed_weights": weights})
    percent = {label: {group: 100 * share for group, share in curve.items()} for label, curve in curves.items()}
    lines = [{"label": label, "points": points} for label, points in percent.items()]
    save_page([{"title": config.name, "aging": lines, "groups": names[:-1]}], workdir / "aging_curve.png")
    for group in groups:
        words = ", ".join(f"{label} {points[group]:.2f} %" for label, points in percent.items())
        print(f"older than {names[group - 1]:>5}?  {words}")
    print(TOO_GOOD)
    print("Class weights, for --config.task.weights:")
    print(f"  proposed  {tuple(round(weight, 2) for weight in weights)}")
    print(f"  LW3       {LOSS_WEIGHTS['LW3']}")
    print(f"Left in {workdir}: aging_curve.json, aging_curve.png, and a folder for each question")


def compare_losses(config: ConfigDict, workdir: Path | str) -> None:
    """Trains with each objective for ordered classes, in `workdir/OBJECTIVE`, and prints a table."""
    chains, workdir = {}, Path(workdir)
    for objective in OBJECTIVES:
        own = config.copy_and_resolve_references()
        own.task.objective, own.row = objective, None
        own.task.sigma = config.task.sigma if OBJECTIVES[objective].takes_sigma else None
        chains[objective] = stages(own, workdir / objective)
    _run(chains, config.mesh.data)
    if not is_first():
        return
    table = {label: _summary(chain[-1].folder)["test"] for label, chain in chains.items()}
    metrics = [name for name, value in next(iter(table.values())).items() if isinstance(value, float)]
    lines = [f"| {' | '.join(['objective', *metrics])} |", f"|---|{'---:|' * len(metrics)}"]
    for label, results in table.items():
        lines.append(f"| {label} | {' | '.join(f'{results[name]:.4f}' for name in metrics)} |")
    replace_text(workdir / "losses.md", "\n".join(lines) + "\n")
    print("\n".join([*lines, TOO_GOOD]))
    print(f"Left in {workdir}: losses.md, and a folder for each objective")


STUDIES: dict[str, Callable[..., None]] = {
    "cross_validate": cross_validate,
    "aging_curve": aging_curve,
    "compare_losses": compare_losses,
}


def _run(chains: dict[str, list[Stage]], devices_each: int) -> None:
    """Completes every stage of every chain; as many chains at once as there are times `devices_each` devices.

    A stage that chains share is trained once, before the others, on all devices.
    """
    every = {stage.folder: stage for chain in chains.values() for stage in chain}
    check_stages(every.values())
    folders = [{stage.folder for stage in chain} for chain in chains.values()]
    shared = set.intersection(*folders) if len(chains) > 1 else set()
    for stage in (every[folder] for folder in every if folder in shared):
        stage.config.mesh.data = -1
        complete(stage)
    at_once = jax.device_count() // devices_each if devices_each > 0 and jax.process_count() == 1 else 1
    lanes = min(at_once, len(chains))
    rest = {label: [stage for stage in chain if stage.folder not in shared] for label, chain in chains.items()}
    if lanes > 1:
        _run_at_once(rest, lanes, devices_each)
        return
    for label, chain in rest.items():
        print(f"--- {label} ---", flush=True)
        for stage in chain:
            complete(stage)


def _run_at_once(chains: dict[str, list[Stage]], lanes: int, devices_each: int) -> None:
    """Chains in threads, each on devices of its own. After an error what has begun goes on, nothing else begins."""
    if any(stage.config.profile for chain in chains.values() for stage in chain):
        raise UserError("profile: one run at a time can be traced; leave out mesh.data, or profile")
    free: queue.SimpleQueue = queue.SimpleQueue()
    for lane in range(lanes):
        free.put(jax.devices()[lane * devices_each : (lane + 1) * devices_each])
    failed = threading.Event()

    def run(label: str, chain: list[Stage], asked_to_stop: list[int]) -> None:
        devices = free.get()
        try:
            for stage in chain:
                if not asked_to_stop and not failed.is_set():
                    complete(stage, devices=devices, label=label, asked_to_stop=asked_to_stop)
        except Exception as error:
            if not isinstance(error, Stopped):
                failed.set()
                print(f"{label}: failed, and no other begins: {error}", flush=True)
            raise
        finally:
            free.put(devices)

    with stop_signals() as asked_to_stop, ThreadPoolExecutor(lanes) as threads:
        for done in [threads.submit(run, label, chain, asked_to_stop) for label, chain in chains.items()]:
            done.result()
        if asked_to_stop:
            raise Stopped(asked_to_stop[0], None)


def _summary(folder: Path) -> dict:
    return read_json(folder / "summary.json")


def _lines(pooled: dict) -> list[str]:
    """What `pool` found, in words."""
    lines = []
    for name, metric in pooled["metrics"].items():
        shown = named(name)
        values = ", ".join(map(shown.number, metric["values"]))
        spread = "" if metric["deviation"] is None else f" ± {shown.number(metric['deviation'])}"
        blind = f"; the same answer to all images: {shown.number(metric['baseline'])}" if "baseline" in metric else ""
        lines.append(f"  {shown.label:>16}  {shown.number(metric['mean'])}{spread}{shown.unit}   ({values}{blind})")
    if len(pooled["labels"]) > 1:
        lines.append("  (mean ± sample standard deviation, n - 1, over the folds)")
    for answer, classes in pooled["classes"].items():
        names, counts = classes["names"], np.array(classes["confusion"])
        present = [number for number in range(len(names)) if counts[number].sum() or counts[:, number].sum()]
        if len(present) > SHOWN_CLASSES:
            continue
        heads = "".join(f"{names[number]:>8}" for number in present)
        lines.append(f"  {answer.replace('_', ' '):>18}: {'recall':>9}   predicted{heads}")
        for number in present:
            share = classes["recall"][names[number]]
            recall = "no image" if share is None else f"{100 * share:.2f} %"
            row = "".join(f"{count:>8}" for count in counts[number, present])
            lines.append(f"  {names[number]:>18}: {recall:>9}            {row}")
    return lines
