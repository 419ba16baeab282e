"""Reads the same labelled photographs with a model of ours and with other programs that are installed.

    python -m tools.compare_peers FOLDER --model=models/faces

FOLDER is FairFace's, of which the validation split is read, or has a `faces.csv` (or is such a file), see
`input_pipeline.datasets.faces_csv`. All programs run as they are by default, one after the other in turns of
`TURN` photographs, and are timed from the file to the answer. Where a program finds several faces, the one nearest to
the centre of the photograph counts.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from input_pipeline.datasets import faces_csv, fairface
from input_pipeline.datasets.face_files import Row, leads_out
from input_pipeline.errors import InputError
from input_pipeline.process import prepare_process
from ror_jax.errors import UserError
from ror_jax.predict.options import add_model_options, face_filter, open_model
from tools.compare_peers.readers import PEERS, Missing, Ours, Reader
from tools.compare_peers.scores import measure, nearest_to_center

TURN = 128  # photographs
COLUMNS = {"exact": "age group, exact", "one_off": "1-off", "gender": "gender"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="FairFace's, or a CSV file of faces")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N photographs")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    add_model_options(parser)
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit is {options.limit}; it must be 1 or more")
    prepare_process()
    try:
        name, folder, rows = open_faces(options.folder)
        rows = rows[: options.limit]
        model = open_model(options)
        find = model.finder(detector=options.detector, keep=face_filter(options))
        readers, left_out = {"ours": Ours(model, find)}, {}
        for peer in options.peers:
            try:
                readers[peer] = PEERS[peer]()
            except Missing as reason:
                left_out[peer] = str(reason)
        results = compare(readers, [folder / row.path for row in rows], rows)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{name}: {len(rows):,} photographs\n\n{table(results)}")
    for peer, reason in left_out.items():
        print(f"Left out: {peer}: {reason}")
    if options.json:
        options.json.write_text(json.dumps({"data": name, "readers": results, "left_out": left_out}, indent=2) + "\n")


def open_faces(path: Path) -> tuple[str, Path, list[Row]]:
    """What the data are called, the folder that their paths start from, and the rows that have an image file.

    Raises:
      DataError: they cannot be read.
      UserError: no row has an image.
    """
    if (path / "fairface_label_val.csv").exists():
        name, folder = "FairFace, validation", path
        rows = [row for row in fairface.read_rows(path) if row.split == fairface.SPLITS["val"]]
    else:
        file = path / faces_csv.FILE if path.is_dir() else path
        name, folder, rows = file.name, file.parent, faces_csv.read_rows(file)
    usable = [row for row in rows if not leads_out(row.path) and (folder / row.path).is_file()]
    if not usable:
        raise UserError(f"{path}: none of its {len(rows):,} rows has an image file")
    if len(usable) < len(rows):
        print(f"Left out: {len(rows) - len(usable):,} rows without an image file.", file=sys.stderr)
    return name, folder, usable


def compare(readers: Mapping[str, Reader], paths: Sequence[Path], rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """For each reader what it reaches, see `scores.measure`, and `photographs_per_second` and `version`.

    Who begins a turn changes from turn to turn, as it may have to wait for the disk. Each reads a turn before, untimed.
    """
    seconds, found = dict.fromkeys(readers, 0.0), {name: [] for name in readers}
    names = list(readers)
    for read in readers.values():
        read(paths[:TURN])
    with tqdm(total=len(paths) * len(readers), unit=" photographs", mininterval=1, disable=None) as bar:
        for turn, start in enumerate(range(0, len(paths), TURN)):
            part, first = paths[start : start + TURN], turn % len(names)
            sizes = [_size(path) for path in part]
            for name in names[first:] + names[:first]:
                begin = time.perf_counter()
                faces = readers[name](part)
                seconds[name] += time.perf_counter() - begin
                found[name] += [nearest_to_center(each, size) for each, size in zip(faces, sizes, strict=True)]
                bar.update(len(part))
    spans, genders = np.float32([row.age_span for row in rows]), np.array([row.gender for row in rows])
    return {
        name: measure(found[name], spans, genders)
        | {"photographs_per_second": len(paths) / seconds[name], "version": readers[name].version}
        for name in names
    }


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:  # in which nobody finds a face
        return 0, 0


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as a table in Markdown; shares are of the faces found / of all photographs."""
    titles = ["", "faces found", *COLUMNS.values(), "MAE, years", "mean error", "90 % interval holds", "photographs/s"]
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for result in results.values():
        pairs = [result[name] and " / ".join(f"{100 * share:.1f}" for share in result[name]) for name in COLUMNS]
        lines.append(
            [
                result["version"],
                f"{result['found']:,}",
                *(pair and f"{pair} %" for pair in pairs),
                None if result["mae"] is None else f"{result['mae']:.2f}",
                None if result["mean_error"] is None else f"{result['mean_error']:+.1f}",
                None if result["coverage"] is None else f"{100 * result['coverage']:.1f} %",
                f"{result['photographs_per_second']:.1f}",
            ]
        )
    return "\n".join(f"| {' | '.join('-' if cell is None else cell for cell in line)} |" for line in lines)


if __name__ == "__main__":
    main()
