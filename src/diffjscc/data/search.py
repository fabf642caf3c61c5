"""Search for the image files that arguments name, and names for what is made of them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from diffjscc.data.decoding import ImageError, is_image_name
from diffjscc.data.folders import visible_files
from diffjscc.data.passed_over import is_other_image, unreadable_kinds, warn_unreadable_kinds
from diffjscc.paths import expanded, printable, resolved

# Windows refuses them, and a name with them in it cannot be copied there.
_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.I)
_NOT_SEARCHED = "subfolders are not searched; name one"
LOOKED_AT = 10_000  # files in subfolders, of which a home folder may have millions
LONGEST_STEM = 120  # bytes of 255: a scheme, a channel, -side-by-side.png and the like follow


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Compute a sort key that orders kodim2 before kodim10."""
    parts = re.split(r"(\d+)", text.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], text


def _expand(
    argument: Path, within: Callable[[Path], Iterable[Path]], otherwise: str
) -> Iterator[Path]:
    """Find the image files that one argument names.

    Args:
        argument: a file, folder or glob pattern.
        within: lists the files of a folder.
        otherwise: way out where a folder has no images.
    """
    if argument.is_dir():
        everything = list(within(argument))
        inside = [p for p in everything if is_image_name(p.name) and p.is_file()]
        others = [p.name for p in everything if is_other_image(p.name)]
        if not inside:
            raise ImageError(
                argument, "this folder contains no images", unreadable_kinds(others) or otherwise
            )
        warn_unreadable_kinds(str(argument), others)
        yield from inside
    elif argument.exists():
        yield argument
    elif any(character in str(argument) for character in "*?["):
        # Brackets in the name of a folder that exists are no pattern.
        root = next(folder for folder in argument.parents if folder.is_dir())
        try:
            matches = list(root.glob(str(argument.relative_to(root))))
        except ValueError as error:
            raise ImageError(argument, f"is not a pattern ({error})", "correct it") from error
        found = [p for p in matches if is_image_name(p.name) and p.is_file()]
        others = [p.name for p in matches if is_other_image(p.name)]
        if not found:
            way = unreadable_kinds(others) or "check it"
            raise ImageError(argument, "this pattern matches no image", way)
        warn_unreadable_kinds(str(argument), others)
        yield from found
    else:
        raise ImageError(argument, "does not exist", "check the path")


def find_images(arguments: Sequence[str | Path] | str | Path) -> list[Path]:
    """Find image files by paths, folders and glob patterns.

    A folder stands for the images directly in it, with a warning if there are more in subfolders,
    which `folder/**/*` searches, too. Files may have any suffix; folders and patterns match image
    suffixes only, and no hidden files.

    Returns:
        Paths in natural order (2 before 10), without duplicates.

    Raises:
        ImageError: an argument matches nothing or cannot be read.
    """
    if isinstance(arguments, str | Path):
        arguments = [arguments]
    found: dict[Path, Path] = {}
    for argument in arguments:
        try:
            named = Path(expanded(argument))
            for path in _expand(named, Path.iterdir, _NOT_SEARCHED):
                found.setdefault(resolved(path), path)
            if named.is_dir() and _images_below(named):
                warnings.warn(
                    f"{printable(str(argument))}: images in its subfolders are not taken; "
                    f'"{printable(str(argument))}/**/*" takes them, too',
                    stacklevel=2,
                )
        except OSError as error:
            raise _unreadable(argument, error) from error
    return sorted(found.values(), key=lambda path: natural_key(str(path)))


def _images_below(folder: Path) -> bool:
    """Return whether subfolders hold images, as far as `LOOKED_AT` files tell."""
    names = islice(visible_files(folder), LOOKED_AT)
    return any("/" in name and is_image_name(name.rpartition("/")[2]) for name in names)


def find_images_below(
    argument: str | Path, without: Path | None = None
) -> list[tuple[Path, PurePosixPath]]:
    """Find image files as `find_images` does, those in the subfolders of a folder among them.

    Args:
        argument: a file, folder or glob pattern.
        without: a folder that is passed over where it lies in a subfolder of the argument's.

    Returns:
        Paths in natural order, each with its folder within the argument's; "." for files and
        patterns.

    Raises:
        ImageError: as `find_images`.
    """
    folder = Path(expanded(argument))
    passed = None if without is None or resolved(without) == resolved(folder) else resolved(without)

    def within(folder: Path) -> Iterator[Path]:
        for name in visible_files(folder):
            path = folder / name
            if passed is None or passed not in resolved(path).parents:
                yield path

    try:
        found = list(_expand(folder, within, "name another"))
    except OSError as error:
        raise _unreadable(argument, error) from error
    below = folder if folder.is_dir() else None
    return [
        (path, PurePosixPath("." if below is None else path.parent.relative_to(below).as_posix()))
        for path in sorted(found, key=lambda path: natural_key(str(path)))
    ]


def _unreadable(argument: str | Path, error: OSError) -> ImageError:
    return ImageError(
        argument, f"cannot be read ({error.strerror})", "check the path and permissions"
    )


def safe_stem(text: str, longest: int = LONGEST_STEM) -> str:
    """Turn a text into the beginning of a file's name that all systems take, readable and short.

    Characters that some system refuses become `_`, bytes that are not UTF-8 `%E9`. A text that is
    too long is cut, and gets the start of its hash, so that it stays distinct.

    Args:
        text: any.
        longest: bytes in UTF-8 of the result.
    """
    stem = "".join(
        f"%{ord(sign) & 0xFF:02X}" if "\ud800" <= sign <= "\udfff" else _REFUSED.sub("_", sign)
        for sign in text
    )
    if _RESERVED.match(stem):
        stem = f"_{stem}"
    if len(stem.encode()) > longest:
        mark = f"~{_digest(text)}"
        stem = stem.encode()[: longest - len(mark)].decode(errors="ignore") + mark
    return stem


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _folded(stem: str) -> str:
    """Equal for stems that some file system takes for the same: in case or composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """Choose unique names for outputs: stems, with suffix and folders added where stems clash.

    Names that differ only in case count as equal, as on case-insensitive file systems; where
    nothing else distinguishes two files, the start of a hash does. See `safe_stem` for characters
    and lengths.

    Raises:
        ImageError: a file is listed twice.
    """
    labels = [path.stem for path in paths]
    places = [resolved(path) for path in paths]
    parts = [place.parts[1:] for place in places]
    for depth in range(1 + max(map(len, parts), default=0)):
        clashing = _clashing(labels)
        for index in clashing:
            path, folders = paths[index], parts[index][-1 - depth : -1]
            labels[index] = "_".join((*folders, path.stem, path.suffix[1:]))
    # Folders do not help against A.png and a.png: of those, the plain name and its own hash.
    for distinct in ([path.name for path in paths], [str(place) for place in places]):
        for index in _clashing(labels):
            labels[index] = f"{paths[index].stem}~{_digest(distinct[index])}"
    if clashing := _clashing(labels):
        raise ImageError(paths[clashing[0]], "is listed twice", "list each file once")
    return [safe_stem(label) for label in labels]


def _clashing(labels: Sequence[str]) -> list[int]:
    """Indices of labels whose files would have the same name."""
    folded = [_folded(safe_stem(label)) for label in labels]
    times = Counter(folded)
    return [index for index, name in enumerate(folded) if times[name] > 1]
