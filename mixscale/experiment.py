"""Everything a launch needs, as frozen typed dataclasses.

A config is a Python file that binds `experiment = Experiment(...)`. The command line overrides any field by its
dotted name (`--optimiser.learning-rate 0.01`); the resolved whole is echoed as JSON beside every run, and the hash
of what determines a run's numbers is the run's id. Nothing here reads data or imports JAX.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import runpy
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mixscale.errors import InputError


@dataclass(frozen=True)
class Embedded:
    """A domain that ships with mixscale."""

    name: str
    """one of: abstracts, code, docs, fiction, maths, romance, speeches, wiki"""


@dataclass(frozen=True)
class TextFiles:
    """Plain text files; each file is a document."""

    glob: str
    """files to read, for example `data/books/**/*.txt`"""
    separator: str = ""
    """where set, each file is split into documents at lines that equal this"""


@dataclass(frozen=True)
class Jsonl:
    """One JSON object a line (plain or .gz); each object is a document."""

    glob: str
    """files to read, for example `data/web-*.jsonl.gz`"""
    field: str = "text"
    """key of the text in each object"""


@dataclass(frozen=True)
class Tfds:
    """A TensorFlow Datasets name, read through `tfds.data_source` without TensorFlow."""

    name: str
    """for example `wikipedia/20230601.en`; must be prepared, or preparable, in the array_record format"""
    split: str = "train"
    field: str = "text"
    data_dir: str | None = None


Source = Embedded | TextFiles | Jsonl | Tfds


@dataclass(frozen=True)
class Tokenizer:
    kind: Literal["bpe", "bytes"] = "bpe"
    """`bpe` is trained on an equal share of every domain's training text; `bytes` has one token a byte"""
    vocab_size: int = 2048
    """size of the BPE vocabulary, end-of-document token included; `bytes` always has 257"""


@dataclass(frozen=True)
class Corpus:
    domains: dict[str, Source]
    """source of each domain, by the name that mixtures and tables will use"""
    tokenizer: Tokenizer = Tokenizer()
    context: int = 128
    """tokens a sequence is trained on; stored rows hold one more"""
    validation_share: float = 0.08
    """share of each domain's documents held out for validation"""
    seed: int = 0
    """decides which documents are held out"""
    cache: str = ".cache/mixscale"
    """where token stores are kept, one folder per content hash"""


@dataclass(frozen=True)
class Model:
    """Shape of a decoder-only transformer."""

    d_model: int = 64
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    """heads of keys and values; must divide `heads`"""
    d_ff: int = 0
    """hidden width of the SwiGLU; 0 means 8/3 of d_model, rounded up to a multiple of 16"""
    tie_embeddings: bool = True
    rope_theta: float = 10_000.0


@dataclass(frozen=True)
class Optimiser:
    learning_rate: float = 0.01
    """peak; transfers over widths, because each matrix scales it by 1/fan-in (µP)"""
    warmup: float = 0.05
    """share of the steps that warm up"""
    schedule: Literal["wsd", "cosine"] = "wsd"
    """warm-up, stable, linear decay to zero; or cosine to a tenth"""
    decay: float = 0.25
    """share of the steps that decay (wsd)"""
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.1
    """decoupled, on matrices only; multiplied by the learning rate, but not by its scale for the width"""
    clip: float = 1.0
    """largest norm of the gradient"""


@dataclass(frozen=True)
class Train:
    tokens: int = 500_000
    """D: tokens each run trains on, rounded down to whole steps"""
    batch: int = 16
    """sequences a step"""
    measure_at: tuple[int, ...] = ()
    """earlier token counts to measure at too; with wsd each decays from a checkpoint of the stable phase"""
    validation_rows: int = 48
    """held-out rows per domain, chosen by the corpus seed; fewer where a domain has fewer"""
    like_tokens: int | None = None
    """D of the target run: where set, each domain offers only `tokens / like_tokens` of its rows, so that the
    proxy repeats its data as the target run will"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the computation; weights and optimiser state are float32"""


@dataclass(frozen=True)
class Design:
    """Which mixtures to train."""

    dirichlet: int = 16
    """draws of Dirichlet(prior^temperature · s), s log-uniform in `strength`"""
    sobol: int = 0
    """points spread evenly over the simplex"""
    optimal: int = 0
    """mixtures that together say most about all others, around the natural mixture (`mixscale design` prints them)"""
    vertices: bool = True
    """each domain alone"""
    centre: bool = True
    """all domains equally"""
    natural: bool = True
    """all domains by their size"""
    prior: Literal["natural", "uniform"] = "natural"
    temperature: float = 0.5
    strength: tuple[float, float] = (1.0, 8.0)
    held_out: int = 8
    """mixtures trained but never fitted; drawn like the Dirichlet ones"""
    replicates: int = 4
    """fitted mixtures that are trained once more for each extra seed, to measure seed noise"""
    replicate_seeds: tuple[int, ...] = (1,)
    seed: int = 0
    """of the draws"""


@dataclass(frozen=True)
class Objective:
    """What the best mixture minimises, and within which bounds."""

    weights: dict[str, float] = field(default_factory=dict)
    """weight of each target's loss; a target not named counts nothing, and all count the same where none is named"""
    lower: dict[str, float] = field(default_factory=dict)
    """least weight of a domain in the mixture"""
    upper: dict[str, float] = field(default_factory=dict)
    """greatest weight of a domain in the mixture"""

    def __post_init__(self) -> None:
        # The command line reads an override as the type it finds, so a whole number in a config must not stay one.
        for name in ("weights", "lower", "upper"):
            object.__setattr__(self, name, {k: float(v) for k, v in getattr(self, name).items()})


@dataclass(frozen=True)
class Verify:
    seeds: tuple[int, ...] = (11, 12, 13)
    """seeds, not used elsewhere, with which optimum, natural, uniform and best of the grid are trained"""


@dataclass(frozen=True)
class Mesh:
    """Devices along each axis; -1 takes what the other axes leave."""

    data: int = -1


@dataclass(frozen=True)
class Machine:
    """How the runs are carried out; changes how long they take and not what they find."""

    workers: int = 0
    """processes that train side by side; 0 means one per core on a CPU, one in all on an accelerator"""
    mesh: Mesh = Mesh()
    steps_per_dispatch: int = 32
    checkpoint_steps: int = 200
    """steps between checkpoints"""


@dataclass(frozen=True)
class Experiment:
    name: str
    corpus: Corpus
    models: dict[str, Model]
    """sizes to train, by name"""
    optimiser: Optimiser = Optimiser()
    train: Train = Train()
    design: Design = Design()
    seed: int = 0
    """of the weights and the order of the rows, for the runs of the design"""
    law: str = "auto"
    objective: Objective = Objective()
    verify: Verify = Verify()
    output: str = "runs"
    """parent folder of the experiment's own"""
    machine: Machine = Machine()

    @property
    def directory(self) -> Path:
        return Path(self.output) / self.name


def load(path: str | Path) -> Experiment:
    """The `experiment` that the Python file at `path` binds.

    Raises:
        InputError: there is no such file, it fails, or it binds no `experiment`.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"config '{file}' does not exist; give a Python file such as configs/quickstart.py")
    try:
        found = runpy.run_path(str(file)).get("experiment")
    except InputError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise InputError(f"config {where}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Experiment):
        raise InputError(f"config '{file}' binds no `experiment = Experiment(...)`, found {type(found).__name__}")
    return found


def to_json(config: Any) -> Any:
    """JSON-ready copy of a config; a dataclass that is one of several choices carries its `type`."""
    if dataclasses.is_dataclass(config):
        fields = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"type": type(config).__name__, **fields} if isinstance(config, Source) else fields
    if isinstance(config, dict):
        return {str(k): to_json(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [to_json(v) for v in config]
    return config


def content_hash(*parts: Any) -> str:
    """Ten hexadecimal digits that are equal exactly where the JSON of `parts` is."""
    text = json.dumps([to_json(p) for p in parts], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
