"""Baselines, before anything is trained, for three domains of very unequal size.

python analysis/examples/baselines.py
"""

import pandas as pd

from mixscale import baselines

TOKENS = {"web": 900e9, "code": 90e9, "wiki": 5e9}
TARGET = ["def area(radius):\n    return 3.14159 * radius ** 2", "class Stack(list):\n    push = list.append"]
SAMPLES = {
    "web": [
        "the ten best places to eat this summer, and how to get there",
        "sign up for our letter and win a bicycle",
    ],
    "code": ["def mean(values):\n    return sum(values) / len(values)", "class Queue(list):\n    pop = list.pop"],
    "wiki": ["Vienna is the capital of Austria and lies on the Danube", "the bicycle is a vehicle of two wheels"],
}


def main() -> pd.DataFrame:
    """One row for each mixture, one column for each domain."""
    mixtures = {
        "natural": baselines.natural(TOKENS),
        "uniform": baselines.uniform(TOKENS),
        "temperature 0.5": baselines.temperature(TOKENS, 0.5),
        "class-balanced": baselines.class_balanced(TOKENS, {"web": "prose", "wiki": "prose"}),
        "by quality": baselines.quality(TOKENS, {"web": 0.1, "code": 0.5, "wiki": 1.0}),
        "UniMax, 4 epochs of 200B": baselines.unimax(TOKENS, budget=200e9, epochs=4),
        "similar to the target": baselines.relevance(TOKENS, SAMPLES, TARGET, share=0.05),
    }
    return pd.DataFrame({name: dict(mixture) for name, mixture in mixtures.items()}).T


if __name__ == "__main__":
    print(main().map("{:.1%}".format))
