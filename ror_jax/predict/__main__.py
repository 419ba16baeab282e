"""Finds the faces in photographs and says what a model reads from each.

python -m ror_jax.predict PHOTOGRAPH_OR_FOLDER ...     # with the default pretrained model; --list_models prints all
python -m ror_jax.predict --model=models/quickstart --output=results.csv --annotated=seen FOLDER

Exit status: 0, all photographs were read and have faces; 1, an error, which is told; 2, wrong arguments; 3, some
photographs could not be read or have no face, as the results say of each; 130 or 143, it was stopped by Ctrl-C or
SIGTERM, and what was read until then is in the results.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter

from tqdm import tqdm

from input_pipeline.errors import InputError
from input_pipeline.process import prepare_process
from ror_jax.errors import UserError
from ror_jax.files import writing
from ror_jax.predict.annotate import annotate
from ror_jax.predict.faces import FACES, open_photograph
from ror_jax.predict.model import BATCH, VIEWS
from ror_jax.predict.options import add_model_options, face_filter, open_model
from ror_jax.predict.photographs import read_photographs
from ror_jax.predict.results import WRITERS, Answers, open_results
from ror_jax.startup import on_sigterm

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm")
INCOMPLETE = 3  # exit status


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ror_jax.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "photographs", type=Path, nargs="+", metavar="PHOTOGRAPH_OR_FOLDER", help="files, or folders of them"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"write the results there: {', '.join(WRITERS)}")
    parser.add_argument("--annotated", type=Path, metavar="DIR", help="write the photographs there, with what was read")
    parser.add_argument(
        "--faces", choices=FACES, default="detect", help="'cropped': each photograph is one face, cut as for training"
    )
    parser.add_argument(
        "--views", choices=VIEWS, help="'flip': mean over a face and its mirror image; default: as in the model's test"
    )
    parser.add_argument("--batch_size", type=int, default=BATCH, metavar="N", help=f"faces at once; default {BATCH}")
    add_model_options(parser)
    options = parser.parse_args(arguments)
    prepare_process()
    with contextlib.suppress(AttributeError):  # of what may stand in the place of a terminal
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with on_sigterm(_stop):
            sys.exit(run(options))
    except BrokenPipeError:  # who read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 and the number of SIGPIPE, which not all systems have
    except (InputError, OSError) as error:
        sys.exit(f"error: {printable(str(error))}")
    except KeyboardInterrupt as interrupt:
        sys.exit(128 + (interrupt.args or (signal.SIGINT,))[0])


def _stop(number: int, _) -> None:
    raise KeyboardInterrupt(number)


def run(options: argparse.Namespace) -> int:
    """Reads all photographs; returns the exit status."""
    if options.batch_size < 1:
        raise UserError(f"--batch_size is {options.batch_size}; it must be 1 or more")
    if options.output and (options.output.suffix.lower() not in WRITERS or options.output.is_dir()):
        raise UserError(f"--output is {options.output}; it must be a file whose name ends in {', '.join(WRITERS)}")
    keep = face_filter(options)
    names = find_photographs(options.photographs)
    if options.annotated:
        check_annotated(options.annotated, names)
        with writing(options.annotated):
            options.annotated.mkdir(parents=True, exist_ok=True)
    model = open_model(options)
    find = model.finder(options.faces, options.detector, keep)
    found = read_photographs(names, find, lambda faces: model.read(faces, options.views), options.batch_size)
    counts, ended = Counter(), None
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(found))  # which is not at its end where it is stopped
        bar = tqdm(found, total=len(names), unit=" photographs", mininterval=1, disable=len(names) < 10 or None)
        photographs = stack.enter_context(bar)
        if options.output:
            file = stack.enter_context(open_results(options.output))
            photographs = WRITERS[options.output.suffix.lower()](photographs, file, model.answers, model.columns)
            stack.enter_context(contextlib.closing(photographs))  # before its file is
        try:
            for photograph in photographs:
                counts.update(photographs=1, faces=len(photograph["faces"]), problems=int(not photograph["faces"]))
                if not options.output:
                    tqdm.write(lines(photograph))
                if options.annotated and photograph["faces"]:
                    counts["undrawn"] += not drawn(
                        photograph, options.annotated / names[Path(photograph["photograph"])], model.answers
                    )
        except (KeyboardInterrupt, Exception) as error:  # whatever it is, what was read is kept
            if not counts or isinstance(error, BrokenPipeError):
                raise
            ended = error
    print(
        f"Faces: {counts['faces']}; photographs: {counts['photographs']}{f' of {len(names)}' if ended else ''}"
        f"{', ' + str(counts['problems']) + ' of them unreadable or without a face' if counts['problems'] else ''}."
        f"{f' Wrote {options.output}.' if options.output else ''}"
        f"{f' Drew what was read in {options.annotated}.' if options.annotated else ''}"
    )
    if ended:
        raise ended
    return INCOMPLETE if counts["problems"] + counts["undrawn"] else 0


def find_photographs(given: Iterable[Path]) -> dict[Path, Path]:
    """The files given, and the images in the folders given, however deep; by each, the name of its annotated copy.

    To a name that is not that of a JPEG, `.jpg` is added.

    Raises:
      UserError: one does not exist, or a folder has no images.
    """
    found = {}
    for path in given:
        if path.is_dir():
            files = _files(path)
            images = [file for file in files if file.suffix.lower() in IMAGES]
            others = Counter(file.suffix.lower() or "no ending" for file in files if file.suffix.lower() not in IMAGES)
            named = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
            if not images:
                raise UserError(f"there are no photographs in {path}{f', but other files: {named}' if named else ''}")
            if others:
                print(f"Left out of {path}: {named}.", file=sys.stderr)
            found |= {file: _as_jpeg(Path(path.resolve().name) / file.relative_to(path)) for file in images}
        elif os.path.lexists(path):
            found[path] = _as_jpeg(Path(path.name))
        else:
            raise UserError(f"there is no {path}")
    return found


def _files(folder: Path) -> list[Path]:
    """All files in it, however deep, through links, too; what cannot be opened is told.

    Names that begin with a point are hidden. Each folder is looked in once, also where links lead round in a circle.
    """

    def tell(error: OSError) -> None:
        print(printable(f"Left out: {error.filename}: {error.strerror}."), file=sys.stderr)

    found, seen = [], set()
    for place, folders, names in os.walk(folder, onerror=tell, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [Path(place) / name for name in names if not name.startswith(".")]
    return sorted(found)


def _as_jpeg(path: Path) -> Path:
    return path if path.suffix.lower() in (".jpg", ".jpeg") else path.with_name(f"{path.name}.jpg")


def check_annotated(folder: Path, names: dict[Path, Path]) -> None:
    """Raises UserError where annotated copies would replace each other, or lie among the photographs."""
    inside = next((path for path in names if path.resolve().is_relative_to(folder.resolve())), None)
    if inside:
        raise UserError(f"--annotated is {folder}, which holds {inside} itself; choose another folder")
    doubled = [name for name, count in Counter(names.values()).items() if count > 1]
    if doubled:
        raise UserError(f"--annotated: several copies would be called {doubled[0]}; do these one after the other")


def drawn(photograph: dict, path: Path, answers: Answers) -> bool:
    """Writes a photograph with what was read from it, as a JPEG; where that fails, says why and returns False."""
    name = photograph["photograph"]
    try:
        image = annotate(open_photograph(name, name), photograph["faces"], answers)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=90)
    except Exception as error:  # whatever it is, the others are drawn
        words = str(error) if isinstance(error, InputError) else f"{name}: {error!r}"
        tqdm.write(printable(f"not drawn: {words}"), file=sys.stderr)
        return False
    return True


def lines(photograph: dict) -> str:
    """A photograph, for the terminal."""
    faces = [
        f"    {number}  {face['words'] or 'a face'}   at {', '.join(f'{edge:.0f}' for edge in face['box'])}"
        + (f", score {face['score']:g}" if face["score"] is not None else "")
        for number, face in enumerate(photograph["faces"], start=1)
    ]
    name = photograph["photograph"]
    title = photograph["problem"] if photograph["problem"] and name in photograph["problem"] else name
    if photograph["problem"] and title == name:
        title = f"{name}: {photograph['problem']}"
    return "\n".join([printable(title), *faces])


def printable(text: str) -> str:
    """The text with escapes for what would control a terminal, or cannot be written."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


if __name__ == "__main__":
    main()
