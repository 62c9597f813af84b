"""What the README says to paste is pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks(section: str) -> list[str]:
    """The bash blocks under a heading."""
    text = README.read_text()
    part = re.split(r"^## ", text.split(f"## {section}\n")[1], flags=re.MULTILINE)[0]
    return re.findall(r"```bash\n(.*?)```", part, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("sections", [["Bring your own text"], ["Bring your own table", "Laws, optima and designs"]])
def test_the_sections_of_the_readme_run(sections, tmp_path):
    pasted = "\n".join(block for section in sections for block in blocks(section))
    assert "mixscale" in pasted
    os.symlink(Path(sys.prefix), tmp_path / ".venv")
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", pasted], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("report.html"))
