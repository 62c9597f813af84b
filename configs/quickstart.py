"""Which mixture of six kinds of text for a small model that writes code and its documentation, and knows the rest?

Small models on embedded text, for two CPU cores and ten minutes:

    mixscale run configs/quickstart.py
"""

from mixscale.config import (
    Corpus,
    Design,
    Embedded,
    Experiment,
    Model,
    Objective,
    Optimizer,
    Tokenizer,
    Train,
    Verify,
)

experiment = Experiment(
    name="quickstart",
    corpus=Corpus(
        domains={name: Embedded(name) for name in ("abstracts", "code", "docs", "fiction", "romance", "wiki")},
        tokenizer=Tokenizer(kind="bpe", vocab_size=1024),
        context=128,
    ),
    models={"0.1M": Model(d_model=64, layers=2, heads=4, kv_heads=2)},
    optimizer=Optimizer(learning_rate=0.01, decay=0.4),
    train=Train(tokens=600_000, batch=8),
    design=Design(dirichlet=30, vertices=False, held_out=12, replicates=4, seed=2026),
    objective=Objective(weights={"code": 3, "docs": 3, "abstracts": 1, "fiction": 1, "romance": 1, "wiki": 1}),
    verify=Verify(seeds=(11, 12, 13, 14, 15)),
)
