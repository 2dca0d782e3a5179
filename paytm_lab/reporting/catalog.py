"""The notebooks of a folder, found by number, name or title."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paytm_lab.core.errors import InvalidSetting, MissingPart
from paytm_lab.reporting.export import headline, read_notebook


def notebooks_in(folder: Path) -> list[Path]:
    """Notebooks whose names begin with two digits, in order. MissingPart where there are none."""
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise MissingPart(
            f"there are no notebooks in {folder}",
            remedy="Run it in the project's folder, or give --notebooks.",
        )
    return found


def find_notebook(folder: Path, name: str) -> Path:
    """The notebook that ``name`` means: '01', '01_routing', 'routing', its title, or a path.

    InvalidSetting, with all names and titles, when that is none or several of them.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    found = notebooks_in(folder)
    wanted = _plain(name.removesuffix(".ipynb"))
    for matches in (
        [p for p in found if wanted in (p.stem.lower(), p.stem[:2], p.stem[3:].lower())],
        [p for p in found if wanted and wanted == _plain(_title(p))],
    ):
        if len(matches) == 1:
            return matches[0]
    raise InvalidSetting(
        f"there is no notebook {name!r:.80} in {folder}", remedy=f"There are: {_listed(found)}."
    )


def _title(path: Path) -> str:
    return headline(read_notebook(path), path.stem)[0]


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip("?.!")


def _listed(found: Sequence[Path]) -> str:
    return "; ".join(f"{path.stem} ({_title(path)})" for path in found)
