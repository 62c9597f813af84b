"""Commands on the folder of one trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

Run = Annotated[Positional[Path], arg(metavar="RUN")]


def export_model(run: Run, /, out: Path, step: int | None = None, store: Path | None = None) -> None:
    """Writes a trained run as safetensors, with its tokenizer, in the layout that `transformers` loads.

    For example:
      mixscale export-model runs/quickstart/runs/ID --out model

    Args:
        run: folder of the run, DIR/runs/ID.
        out: folder to write.
        step: number of the checkpoint, as its folder in checkpoints/ is called: optimizer steps, those of branches
            that decayed for earlier measurements included; the newest where none is given.
        store: folder of its token store, where it is no longer in the cache that the run names.
    """
    from mixscale.cli.on_table import must_be
    from mixscale.training.export import export_model as export

    must_be(out, "folder")
    number = export(run, out, step, store)
    print(f"checkpoint {number} of {run} saved to {out}; load it with AutoModelForCausalLM.from_pretrained('{out}')")
