"""A fit on disk: fit.json for names and what a person may read, one npz for the arrays it names.

Knows what a fit holds and how it is written, nothing of what it means.
"""

from __future__ import annotations

import json
import secrets
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.io import atomic_write, ensure_dir
from mixscale.laws.dataset import Dataset, Scale
from mixscale.laws.families import Points
from mixscale.laws.selection import named

if TYPE_CHECKING:
    from mixscale.laws.result import LawFit

OF_FIT = ("theta_TxP", "sigma_T", "theta_SxTxP", "oof_pred_TxR", "oof_bootstrap_VxTxR", "missed_TxR", "steep_2xT")
PLAIN = ("seed", "drift", "noise", "noise_freedom", "reason", "notes")
"""Fields of a fit that are written as they are: arrays, and what JSON holds."""
OLDER = "this fit is of an earlier version, which tested no law on mixtures that it had not seen; fit again"
"""Note of a fit without predictions of mixtures left out, where it needs them."""


def save(fit: LawFit, folder: str | Path) -> None:
    """Write fit.json and the arrays it names into `folder`.

    The arrays go to a new file and fit.json, which names it, comes last: until then the old fit stays whole.

    Raises:
        InputError: the folder is, or lies below, a file.
    """
    folder = ensure_dir(folder)
    about = _about(fit) | {"arrays": f"fit-{secrets.token_hex(4)}.npz"}
    with atomic_write(folder / about["arrays"]) as file:
        np.savez(file, **_arrays(fit))
    with atomic_write(folder / "fit.json") as file:
        file.write_text(json.dumps(about, indent=1) + "\n")
    for stale in ("diagnosis.csv", "diagnosis.txt"):  # of the fit that was here before
        (folder / stale).unlink(missing_ok=True)
    for old in folder.glob("fit-????????.npz"):
        if old.name != about["arrays"]:
            old.unlink(missing_ok=True)


def load(folder: str | Path) -> dict[str, Any]:
    """The fields of the fit saved in `folder`.

    Raises:
        InputError: there is none, or it is damaged.
    """
    folder = Path(folder)
    if not (folder / "fit.json").is_file():
        raise InputError(f"'{folder}' holds no fit (fit.json)")
    try:
        about = json.loads((folder / "fit.json").read_text())
        with np.load(folder / about["arrays"], allow_pickle=False) as data:
            return _fields(about, dict(data))
    except KeyError as error:
        raise InputError(f"the fit in '{folder}' lacks {error}: damaged, or of another version; fit again") from error
    except (ValueError, OSError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the fit in '{folder}' is damaged ({error}); fit again") from error


def _about(fit: LawFit) -> dict[str, Any]:
    scale = fit.dataset.scale
    return {
        "law": fit.law,
        "source": fit.family.source,
        "domains": fit.domains,
        "columns": fit.dataset.columns,
        "scale": {"n_params": scale.n, "n_tokens": scale.d},
        "params": fit.params,
        "param_intervals": fit.param_intervals(),
        "skill": fit.skill().to_json(),
        "cross_validation": fit.cross_validation.to_dict(orient="records"),
        **{name: getattr(fit, name) for name in PLAIN},
    }


def _arrays(fit: LawFit) -> dict[str, np.ndarray]:
    dataset = fit.dataset
    return {
        **{name: getattr(fit, name) for name in OF_FIT},
        **dataset.points._asdict(),
        "y_TxR": dataset.y_TxR,
        "group_R": dataset.group_R,
        "run_R": dataset.run_R,
        "offset_T": dataset.scale.offset_T,
        "unit_T": dataset.scale.unit_T,
        "unseen_TxR": np.array([]) if fit.unseen_TxR is None else fit.unseen_TxR,
    }


def _fields(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    columns = tuple(about["columns"])
    dataset = Dataset(
        tuple(about["domains"]),
        columns,
        tuple(c.split("/", 1)[1] for c in columns),
        Points(*(arrays[name] for name in Points._fields)),
        arrays["y_TxR"],
        arrays["group_R"],
        arrays["run_R"],
        Scale(arrays["offset_T"], arrays["unit_T"], about["scale"]["n_params"], about["scale"]["n_tokens"]),
        (),
    )
    return {
        "family": named(about["law"]).bound(dataset.points),
        "dataset": dataset,
        "cross_validation": pd.DataFrame(about["cross_validation"]),
        **{name: arrays[name] for name in OF_FIT},
        **{name: about[name] for name in PLAIN},
        **_unseen(about, arrays),
    }


def _unseen(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Predictions of mixtures left out, where they are others than what the law was chosen by."""
    if "unseen_TxR" in arrays:
        return {"unseen_TxR": arrays["unseen_TxR"] if arrays["unseen_TxR"].size else None}
    oof_pred_TxR = arrays["oof_pred_TxR"]
    # Where a question was about larger sizes, only a part of the rows was left out.
    if np.isfinite(oof_pred_TxR).all():
        return {}
    return {"unseen_TxR": np.full(oof_pred_TxR.shape, np.nan), "notes": [*about["notes"], OLDER]}
