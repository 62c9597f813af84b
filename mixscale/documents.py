"""Documents as people write them: JSON, YAML, and the text of a Python dict, down to flat names and values.

Names are the text of the document, never numbers or truth values: `no` and 007 stay what they are. A name that one
mapping gives twice is an error. Nothing is evaluated.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.table_file import check_unique

NAMES = ("name", "domain", "dataset", "source", "subset", "path")
WEIGHTS = ("weight", "ratio", "proportion", "probability", "prob", "share", "fraction", "percentage")
"""Keys under which a list of domains holds the name and the weight of each."""
MAX_VALUES, MAX_CHARACTERS = 100_000, 10_000_000  # of a document: values, and characters of all their flat names
CONSTANTS = {"null": None, "true": True, "false": False, "nan": math.nan, "NaN": math.nan, "inf": math.inf}
CONSTANTS |= {"Infinity": math.inf}
WRAPPERS = ("float16", "float32", "float64", "int32", "int64", "OrderedDict", "SummarySubDict")  # in a Python repr


def parse_json(text: str, what: str) -> Any:
    """The content of JSON; InputError, which begins with `what`, if it is damaged or gives a name twice."""
    try:
        return json.loads(text, object_pairs_hook=_mapping)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON: {error}") from error


def parse_yaml(text: str, what: str) -> Any:
    """The content of YAML, with every name and value as its text; errors as those of `parse_json`."""
    import yaml

    class Loader(yaml.SafeLoader):
        # Without the resolvers of numbers and truth values, of which YAML 1.1 has many more than 1.2.
        yaml_implicit_resolvers = {
            "<": [("tag:yaml.org,2002:merge", re.compile("<<"))],
            "~": [("tag:yaml.org,2002:null", re.compile("~"))],
        }

        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            _mapping((key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            return node

        def construct_undefined(self, node: yaml.Node) -> Any:
            kinds = {yaml.ScalarNode: self.construct_yaml_str, yaml.SequenceNode: self.construct_yaml_seq}
            return kinds.get(type(node), self.construct_yaml_map)(node)

    Loader.add_constructor(None, Loader.construct_undefined)  # tags such as !!python/tuple change nothing
    try:
        return yaml.load(text, Loader)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{what} is not valid YAML: {error}") from error


def parse_cell(value: object, what: str) -> Any:
    """The dict or list that a text holds, as JSON or as Python writes it; None for anything else.

    Raises:
        InputError: it gives a name twice; the error begins with `what`.
    """
    if isinstance(value, Mapping | list):
        return value
    if isinstance(value, np.ndarray):  # a list in a Parquet file
        return value.tolist()
    text = value.strip() if isinstance(value, str) else ""
    if not text.startswith(("{", "[", *WRAPPERS)):
        return None
    try:
        try:
            found = json.loads(text, object_pairs_hook=_mapping)
        except json.JSONDecodeError:
            found = ast.literal_eval(_Plain().visit(ast.parse(text, mode="eval")))
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, Mapping | list) else None


def flatten(values: Mapping, prefix: str, what: str) -> dict[str, object]:
    """Numbers and texts of nested mappings, with dots between levels.

    A list of names and weights counts as a mapping, so does a list of weights beside one of names (domains, weights),
    and so does a text that holds a mapping.

    Args:
        prefix: begins each name. what: the document, as errors name it.

    Raises:
        InputError: two values have one name, or there are too many (YAML's aliases can be circular).
    """
    wrapped = [v for k, v in values.items() if not str(k).startswith(("_wandb", "wandb_version"))]
    if wrapped and all(isinstance(v, Mapping) and {"value"} <= {*v} <= {"value", "desc"} for v in wrapped):
        values = {k: v["value"] for k, v in values.items() if v in wrapped}  # a config as Weights & Biases keeps it
    found: dict[str, object] = {}
    waiting, count, characters = [(prefix, values)], 0, 0
    while waiting:
        before, level = waiting.pop(0)
        names = next((v for k, v in level.items() if str(k).removesuffix("s") in NAMES and isinstance(v, list)), [])
        for key, value in level.items():
            if names and isinstance(value, list) and len(value) == len(names) and value is not names:
                value = [*zip(names, value, strict=True)]
            name = f"{before}{key}"
            count, characters = count + 1, characters + len(name)
            if count > MAX_VALUES or characters > MAX_CHARACTERS:
                raise InputError(
                    f"{what} has more than {MAX_VALUES} values, or names of more than {MAX_CHARACTERS} "
                    "characters together (does an alias contain itself?); give one with the mixture alone"
                )
            nested = named_weights(parse_cell(value, what), f"{what}, {name}")
            if nested is not None:
                waiting.append((f"{name}.", nested))
            elif isinstance(value, int | float | str) and not isinstance(value, bool):
                if name in found:
                    raise InputError(f"{what} gives '{name}' twice, nested and with dots; give it one value")
                found[name] = "NaN" if value != value else value  # not the blank of a value that was not logged
    return found


def named_weights(value: Any, what: str) -> Mapping | None:
    """A mapping, or that of a list of `{name, weight}` or of pairs; None for anything else."""
    if isinstance(value, Mapping) or not isinstance(value, list) or not value:
        return value if isinstance(value, Mapping) else None
    if all(isinstance(item, Mapping) for item in value):
        keys = [next((k for k in known if all(k in item for item in value)), None) for known in (NAMES, WEIGHTS)]
        pairs = [tuple(item[k] for k in keys) for item in value] if None not in keys else []
    else:
        pairs = [tuple(item) for item in value if isinstance(item, list | tuple) and len(item) == 2]
        pairs = pairs if len(pairs) == len(value) and all(isinstance(name, str) for name, _ in pairs) else []
    try:
        return _mapping((str(name), weight) for name, weight in pairs) if pairs else None
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def expanded(frame: pd.DataFrame, bare: Collection[str] = (), taken: Collection[str] = ()) -> pd.DataFrame:
    """The table with each column of mappings as columns COLUMN.NAME of their values.

    A mapping is a dict, as JSON or Python writes it, or a list of names and weights.

    Args:
        bare: columns whose values need no COLUMN. in front where that name is free; names that begin with _ are
            left out of them. taken: names that are not free.
    """
    texts = [c for c in frame if frame[c].dtype == object or isinstance(frame[c].dtype, pd.StringDtype)]
    for column in texts:
        cells = frame[column]
        known = cells.notna() & (cells.astype(str).str.strip() != "")
        if not known.any() or not cells[known].astype(str).str.lstrip().str.startswith(("{", "[", *WRAPPERS)).all():
            continue
        what = f"column '{column}'"
        parsed = [named_weights(parse_cell(v, what), what) for v in cells[known]]
        if None in parsed:
            if column not in bare:
                continue
            row = parsed.index(None)
            text = str(cells[known].iloc[row])
            raise InputError(f"{what}, row {row}: '{text[:60]}' is neither JSON nor a dict as Python writes it")
        rows = [flatten(p, f"{column}.", what) for p in parsed]
        made = pd.DataFrame(rows, index=cells.index[known]).reindex(frame.index)
        if column in bare:
            short = {c: c[len(column) + 1 :] for c in made}
            made = made[[c for c in made if not short[c].startswith("_") or short[c] == "_step"]]
            made = made.rename(columns={c: short[c] for c in made if short[c] not in (*frame, *taken)})
        frame = pd.concat([frame.drop(columns=column), made], axis=1)
        check_unique(list(frame.columns), "table")
    return frame


def _mapping(pairs: Iterable[tuple[Any, Any]]) -> dict:
    found: dict = {}
    for name, value in pairs:
        if name in found:
            raise InputError(f"'{name}' occurs twice in one mapping; give it one value")
        found[name] = value
    return found


class _Plain(ast.NodeTransformer):
    """Makes the syntax of a Python repr one of literals: names such as nan, and wrappers such as np.float64(3.0)."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(CONSTANTS[node.id]) if node.id in CONSTANTS else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        wrapper = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        unwrapped = wrapper in WRAPPERS and len(node.args) == 1 and not node.keywords
        return self.visit(node.args[0]) if unwrapped else node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        _mapping((key.value, None) for key in node.keys if isinstance(key, ast.Constant))
        return self.generic_visit(node)
