"""The benchmark compares like with like: the twin is the same model, and tables are filled from what ran."""

import importlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from mixscale.config import Model
from mixscale.models import Transformer, flops_per_token

ANALYSIS = Path(__file__).parents[2] / "analysis"
CONFIG = Model(d_model=32, layers=2, heads=4, kv_heads=2)


@pytest.fixture(scope="module")
def benchmark_of():
    """Imports a module of the benchmark, which is a script and its folders and not part of the package."""
    sys.path.insert(0, str(ANALYSIS))
    yield importlib.import_module
    sys.path.remove(str(ANALYSIS))


def test_the_twin_has_the_same_loss_and_gradient(benchmark_of):
    torch = pytest.importorskip("torch", reason="the twin is PyTorch's; pip install -e '.[hf]'")
    twin_of = benchmark_of("training.twin")
    graph, state = nnx.split(nnx.jit(lambda: Transformer(CONFIG, 40, nnx.Rngs(0)))())
    rows_BxT1 = np.random.default_rng(0).integers(0, 40, (3, 11))
    split = rows_BxT1[:, :-1], rows_BxT1[:, 1:]
    loss, gradient = jax.jit(jax.value_and_grad(lambda state: nnx.merge(graph, state).loss(*split)))(state)
    twin, expected = twin_of.Twin(CONFIG, 40, 10), twin_of.Twin(CONFIG, 40, 10)
    twin_of.copy_weights(twin, nnx.to_pure_dict(state))
    twin_of.copy_weights(expected, nnx.to_pure_dict(gradient))
    found = twin(torch.from_numpy(rows_BxT1))
    found.backward()
    assert found.item() == pytest.approx(float(loss), rel=1e-6)
    for (name, weight), ours in zip(twin.named_parameters(), expected.parameters(), strict=True):
        error = (weight.grad - ours).abs().max() / ours.abs().max()
        assert error < 1e-4, name


def test_products_of_the_account_are_those_of_the_model(benchmark_of):
    """Together they come to the FLOPs that the model is said to take, attention counted whole."""
    roofline, shapes = benchmark_of("training.roofline"), benchmark_of("training.shapes")
    shape = shapes.Shape(CONFIG, 2, 8, 40, 1)
    flops = sum(p.times * p.flops for p in roofline.products(shape, "float32"))
    tokens = shape.batch * shape.context
    norms = 6.0 * tokens * (CONFIG.layers * (2 * CONFIG.d_model + 2 * 8) + CONFIG.d_model)
    above = 6.0 * tokens * CONFIG.layers * shape.context * CONFIG.d_model
    assert flops == tokens * flops_per_token(CONFIG, 40, shape.context) - norms + above


@pytest.mark.slow
def test_from_a_measurement_to_a_filled_document(benchmark_of, tmp_path, capsys):
    script = benchmark_of("train_benchmark")
    document = tmp_path / "performance.md"
    document.write_text(
        "<!-- table:mfu -->\nold\n<!-- end -->\n<!-- table:roofline -->\nold\n<!-- end -->\n"
        "<!-- table:twin -->\nkept\n<!-- end -->\n"
    )
    asked = script.Benchmark(tmp_path / "out", only="roofline,mfu", quick=True, rounds=1, docs=document)
    script.main(asked)
    rows = json.loads((tmp_path / "out" / "quick" / "roofline.json").read_text())
    assert [row["dtype"] for row in rows] == ["float32", "bfloat16"]
    assert all(row["products_ms"] > 0 for row in rows)
    text = document.read_text()
    assert "| 0.15M | float32 |" in text
    assert "kept" in text
    assert "old" not in text
