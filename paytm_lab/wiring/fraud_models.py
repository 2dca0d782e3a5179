"""A trained model goes into a running lab by one call: methods of ``Lab``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud import model_file
from paytm_lab.fraud.model_book import Deployment, ModelBook
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.rules import Thresholds

if TYPE_CHECKING:
    from paytm_lab.wiring.system import System


class HasSystem(Protocol):
    @property
    def live(self) -> System: ...


def deploy_model(
    lab: HasSystem,
    model: ModelFile | Path | str,
    *,
    shadow: bool = True,
    thresholds: Thresholds | None = None,
) -> Deployment:
    """Ask a trained model (or its file) about every payment from now on, in every process of this
    lab and behind both gates. In shadow its scores are stored (``run.features.shadow_score``) and
    decide nothing; see ``promote_model``. ``thresholds``: instead of the model's own.

    BadInput where it needs what a live scorer does not know; MalformedFile for no model's file.
    """
    if not isinstance(model, ModelFile | Path | str):
        raise BadInput(
            f"{type(model).__name__} is no model", place="deploy",
            remedy="Give what fraud.science.models.train returns, or the path of its file.",
        )  # fmt: skip
    file = model if isinstance(model, ModelFile) else model_file.load(model)
    return _book(lab).deploy(file, shadow=shadow, thresholds=thresholds)


def promote_model(lab: HasSystem) -> Deployment:
    """Let the model in shadow decide. BadInput where there is none."""
    return _book(lab).promote()


def withdraw_model(lab: HasSystem) -> Deployment:
    """Ask no trained model any more; the rules decide alone."""
    return _book(lab).withdraw()


def _book(lab: HasSystem) -> ModelBook:
    return lab.live.model_book
