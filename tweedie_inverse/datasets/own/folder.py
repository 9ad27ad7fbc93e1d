"""A folder of files as a source of images: each is read once, to know what it holds."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from tweedie_inverse.datasets.own.facts import SHARES, Facts, facts_of
from tweedie_inverse.datasets.own.layout import images_of_file
from tweedie_inverse.io.reading import read
from tweedie_inverse.runtime.checksums import checksum


class Folder:
    """All files below a folder that `io.read` understands, in the order of their names.

    Files and folders whose names begin with a dot are passed over.

    Args:
        path: of the folder.
        known: facts by checksum, of an earlier run: such files are not read again.
        by_folder: files of one folder are one group, as the slices of a patient may be.
        told: called with (files read, files in all) now and then.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is a file, or has no files.
    """

    def __init__(
        self,
        path: Path,
        *,
        known: Mapping[str, Facts] | None = None,
        by_folder: bool = False,
        told: Callable[[int, int], None] | None = None,
    ):
        if not path.exists():
            raise FileNotFoundError(f"train(data={str(path)!r}): there is no such folder")
        if not path.is_dir():
            raise ValueError(f"train(data={str(path)!r}): is a file; name the folder of images")
        self.path, self.by_folder, self.known = path, by_folder, dict(known or {})
        self.name = f"the folder {path.resolve().name}"
        files = sorted(self._files(), key=lambda file: file.relative_to(path).as_posix())
        if not files:
            raise ValueError(
                f"train(data={str(path)!r}): the folder holds no files. Name the folder of your "
                "images; folders below it are read too"
            )
        self._first: dict[int, Tensor] = {}
        self.facts = []
        for number, file in enumerate(files):
            self.facts.append(self._facts(file))
            if told is not None:
                told(number + 1, len(files))

    def _files(self) -> Iterator[Path]:
        for file in self.path.rglob("*"):
            hidden = any(part.startswith(".") for part in file.relative_to(self.path).parts)
            if not hidden and file.is_file():
                yield file

    def _facts(self, file: Path) -> Facts:
        name = file.relative_to(self.path).as_posix()
        digest = checksum(file)
        if digest in self.known:
            found = Facts.of_plain({**self.known[digest].plain(), "name": name})
            # The group of a series is in the file; the others are of the name.
            if not found.group.startswith("series "):
                found = Facts.of_plain({**found.plain(), "group": self._group(file)})
            return found
        try:
            data = read(file)
            images = images_of_file(data)
            if data.units == "HU" or data.value_range is None:
                white = None
            else:
                white = float(data.value_range[1])
            return facts_of(
                images,
                name=name,
                checksum=digest,
                group=_series(data) or self._group(file),
                white=white,
                units=data.units,
            )
        except (ValueError, TypeError, ImportError, OSError) as error:
            return Facts(name, digest, refused=_reason(error, file))

    def _group(self, file: Path) -> str:
        own = file.parent if self.by_folder else file
        return own.relative_to(self.path).as_posix()

    def load(self, number: int) -> Tensor:
        """The images of file `number`, ``(count, channels, height, width)``, as in the file."""
        return images_of_file(read(self.path / self.facts[number].name))


def _series(data: object) -> str:
    """Slices of one DICOM series are one volume."""
    header = getattr(data, "header", None)
    if getattr(data, "kind", "") != "dicom" or not header:
        return ""
    uid = str(header[0].get("SeriesInstanceUID") or "")
    return f"series {uid}" if uid else ""


def _reason(error: Exception, file: Path) -> str:
    """What is wrong with a file, without its name."""
    said = " ".join(str(error).split())
    return said.removeprefix("io.read: ").removeprefix(f"{file}: ") or type(error).__name__


def known_facts(index: Path) -> dict[str, Facts]:
    """Facts by checksum that an earlier run has written to `index`; none where there is none.

    A damaged index costs a new look at the files, and nothing else.
    """
    try:
        found = [Facts.of_plain(row["facts"]) for row in json.loads(index.read_text())["files"]]
        return {one.checksum: one for one in found if len(one.quantiles) in (0, len(SHARES))}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
