"""Original files of public data sets, fetched at first use.

tensorflow-datasets does not do it here: its builders of CIFAR and SVHN, and its unpacking of archives, need TensorFlow.
"""

import dataclasses
import hashlib
import os
import pathlib
import posixpath
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable

import requests
from tqdm import tqdm

from input_pipeline.errors import DataError

try:
    import fcntl
except ModuleNotFoundError:  # on Windows, where two processes may fetch the same
    fcntl = None


@dataclasses.dataclass(frozen=True)
class Original:
    """A file on the network, or a folder that is in a tar or zip file there."""

    name: str  # of the file or folder
    url: str
    sha256: str  # of what is at the URL


def download(originals: Iterable[Original], cache_dir: str | os.PathLike, wanted: str) -> pathlib.Path:
    """The folder in which these files and folders are, after those that are not there yet have been fetched.

    One process fetches; others that want the same files wait for it.

    Args:
        originals: what to fetch.
        cache_dir: the folder is `downloads` in it.
        wanted: for the error's message: what the user may give instead, and where it is to be had.

    Raises:
        DataError: something could not be fetched or is not what it was; the message says what, why, and `wanted`.
    """
    folder = pathlib.Path(cache_dir).expanduser() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        for original in originals:
            if not (folder / original.name).exists():
                try:
                    _fetch(original, folder)
                except Exception as error:  # of requests, tarfile, which raises KeyError, too, zlib ...
                    raise DataError(f"{original.url} cannot be downloaded ({_reason(error)}); {wanted}") from error
    return folder


def _fetch(original: Original, folder: pathlib.Path):
    file_name = posixpath.basename(original.url)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path, digest = pathlib.Path(scratch, file_name), hashlib.sha256()
        with requests.get(original.url, stream=True, timeout=30) as response, open(path, "wb") as file:
            response.raise_for_status()
            size = int(response.headers.get("Content-Length", 0)) or None
            with tqdm(total=size, desc=f"downloading {file_name}", unit="B", unit_scale=True) as progress:
                for block in response.iter_content(2**20):
                    file.write(block)
                    digest.update(block)
                    progress.update(len(block))
        if digest.hexdigest() != original.sha256:
            raise OSError(f"its SHA-256 is {digest.hexdigest()} instead of {original.sha256}")
        if original.name != file_name:
            _unpack(path, scratch)
            path = path.with_name(original.name)
        os.replace(path, folder / original.name)


def _unpack(path: pathlib.Path, folder: str) -> None:
    with zipfile.ZipFile(path) if path.suffix == ".zip" else tarfile.open(path) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # of tar; Python 3.11.3 and older has none
        archive.extractall(folder)


def _reason(error: BaseException) -> str:
    """The error in which this one began: requests wraps "Name or service not known" into three others."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
