"""Any run folder, ready to use: what `redraft train` makes of whatever recipe."""

from pathlib import Path

from redraft.baselines.fitted import BaselineRecommender, is_baseline_run, read_fitted
from redraft.decode.correction import DEFAULT_CORRECTION, Correction
from redraft.evidence.recommender import ReflectingRecommender, is_reflecting_run, load_reflecting
from redraft.recommender import GenerativeRecommender, read_catalogue
from redraft.recommender import load as load_generative

__all__ = ["Loaded", "load"]

Loaded = GenerativeRecommender | ReflectingRecommender | BaselineRecommender
"""What a run folder holds; all know their catalogue."""


def load(
    run: Path | str,
    *,
    beams: int | None = None,
    half: bool = False,
    trust: float = 1.0,
    device: str = "cpu",
    correction: Correction = DEFAULT_CORRECTION,
) -> Loaded:
    """The recommender of a run folder of any recipe.

    beams, half, trust, correction: of a generative one, see `redraft.recommender`.
    Raises InputError if the folder holds no trained run, or one that is damaged.
    """
    if is_baseline_run(Path(run)):
        catalogue = read_catalogue(Path(run) / "catalogue.parquet")
        return BaselineRecommender(read_fitted(Path(run), device=device), catalogue)
    if is_reflecting_run(Path(run)):
        return load_reflecting(Path(run), beams=beams, half=half, device=device)
    return load_generative(run, beams=beams, half=half, trust=trust, device=device, correction=correction)
