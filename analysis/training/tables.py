"""Measured rows as tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

COLUMNS = {
    "twin": {
        "shape": ("N", "{}"),
        "cores": ("cores", "{}"),
        "job": ("", "{}"),
        "wall": ("tokens/s", "{:,.0f}"),
        "wall_ratio": ("over PyTorch", "{:.2f}"),
        "processor": ("tokens per second of processor time", "{:,.0f}"),
        "processor_ratio": ("over PyTorch", "{:.2f}"),
    },
    "losses": {"job": ("", "{}"), "loss": ("held-out loss, nats per token", "{:.4f}")},
    "outside": {
        "shape": ("N", "{}"),
        "run_s": ("seconds of 32 steps in a run", "{:.3f}"),
        "idle": ("device idle, of the time", "{:.2%}"),
        "host": ("other threads, of the cores' time", "{:.2%}"),
        "share": ("outside, at most", "{:.1%}"),
    },
    "launch": {
        "launch": ("launch", "{}"),
        "runs": ("runs", "{}"),
        "first_step_s": ("seconds to the first step", "{:.1f}"),
        "first_step_cpu_s": ("processor seconds", "{:.1f}"),
        "all_s": ("seconds until all runs have ended", "{:.1f}"),
        "compiled": ("training programs compiled", "{}"),
    },
    "population": {
        "backend": ("backend", "{}"),
        "runs": ("runs together", "{}"),
        "per_second": ("tokens/s of all", "{:,.0f}"),
        "ratio": ("ratio to one by one", "{:.2f}"),
    },
    "roofline": {
        "shape": ("N", "{}"),
        "dtype": ("products", "{}"),
        "step_ms": ("step, ms", "{:.1f}"),
        "products_ms": ("its products alone, ms", "{:.1f}"),
        "share": ("share", "{:.0%}"),
        "product_gflops": ("GFLOP/s of the products", "{:.0f}"),
        "step_gflops": ("of the step", "{:.0f}"),
        "torch_gflops": ("of the products in PyTorch", "{:.0f}"),
    },
    "mfu": {
        "shape": ("parameters", "{}"),
        "device": ("device", "{}"),
        "per_second": ("tokens/s", "{:,.0f}"),
        "mfu": ("MFU", "{:.1%}"),
    },
}


def markdown(part: str, rows: Sequence[dict[str, object]]) -> str:
    """A table, or a line that says that nothing could be measured here."""
    if not rows:
        return "Not measured: this part needs an accelerator, and there was none."
    columns = COLUMNS[part]
    lines = [[title for title, _ in columns.values()], ["---"] * len(columns)]
    lines += [
        ["" if row.get(name) is None else form.format(row[name]) for name, (_, form) in columns.items()]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
