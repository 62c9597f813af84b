"""The swarm's optimum at one billion parameters, against the natural and the uniform mixture, on eight devices.

Weights, gradients and moments are spread over all eight; layers are compiled once and their activations computed again
for the gradient:

    mixscale optimize runs/swarm/fit --out runs/swarm/optimum.json
    mixscale sweep configs/verify_1b.py
"""

import runpy
from dataclasses import replace
from pathlib import Path

from mixscale.config import Design, Experiment, Machine, Mesh, Model, Optimizer, Train

swarm: Experiment = runpy.run_path(str(Path(__file__).with_name("swarm.py")))["experiment"]

experiment = replace(
    swarm,
    name="verify_1b",
    corpus=replace(swarm.corpus, context=2048),
    models={"1B": Model(d_model=2048, layers=18, heads=16, kv_heads=8, tie_embeddings=False)},
    optimizer=Optimizer(learning_rate=0.01, warmup=0.01, decay=0.2),
    train=Train(tokens=25_000_000_000, batch=256, validation_rows=256, dtype="bfloat16"),
    design=Design(
        given="runs/swarm/optimum.json", dirichlet=0, vertices=False, held_out=0, replicates=0, replicate_seeds=()
    ),
    machine=Machine(
        mesh=Mesh(data=1, fsdp=8),
        layers="scan",
        remat=True,
        steps_per_dispatch=8,
        checkpoint_steps=500,
        wandb="mixscale",
    ),
)
