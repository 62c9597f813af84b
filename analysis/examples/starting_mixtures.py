"""Mixtures to start from, before anything is trained, for three domains of very unequal size.

python analysis/examples/starting_mixtures.py
"""

import pandas as pd

from mixscale import starting

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
    """One row a mixture, one column a domain."""
    mixtures = {
        "natural": starting.natural(TOKENS),
        "uniform": starting.uniform(TOKENS),
        "temperature 0.5": starting.temperature(TOKENS, 0.5),
        "class-balanced": starting.class_balanced(TOKENS, {"web": "prose", "wiki": "prose"}),
        "by quality": starting.quality(TOKENS, {"web": 0.1, "code": 0.5, "wiki": 1.0}),
        "UniMax, 4 epochs of 200B": starting.unimax(TOKENS, budget=200e9, epochs=4),
        "like the target": starting.relevance(TOKENS, SAMPLES, TARGET, share=0.05),
    }
    return pd.DataFrame({name: dict(mixture) for name, mixture in mixtures.items()}).T


if __name__ == "__main__":
    print(main().map("{:.1%}".format))
