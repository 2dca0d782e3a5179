"""Optional parts of the package; who lacks one is told how to get it."""

from __future__ import annotations

from importlib.util import find_spec

from paytm_lab.core.errors import MissingPart

_EXTRAS = {
    "distributed": ("distributed", "dask"),
    "ipywidgets": ("ipywidgets", "science"),
    "numba": ("numba", "science"),
    "pyarrow": ("pyarrow", "science"),
    "scipy": ("scipy", "science"),
    "sklearn": ("scikit-learn", "science"),
}


def need(*modules: str) -> None:
    """Raise MissingPart when one of ``modules`` is not installed. Imports nothing.

    Call it before the import that needs it: ``need("sklearn")``.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        names = ", ".join(_EXTRAS[module][0] for module in missing)
        extras = ",".join(sorted({_EXTRAS[module][1] for module in missing}))
        raise MissingPart(
            f"{names} is not installed",
            remedy=f"`pip install 'paytm-lab[{extras}]'`; `make env` installs everything.",
        )
