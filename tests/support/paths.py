"""Where things lie, whatever the depth of the test that asks."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
DATA = ROOT / "tests" / "data"
