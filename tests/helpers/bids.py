"""What the BIDS validator says of a dataset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def errors_of(folder: Path) -> list[dict[str, Any]]:
    """Return what the BIDS validator calls an error."""
    validator = Path(sys.executable).parent / "bids-validator-deno"
    checked = subprocess.run(
        [str(validator), "--json", str(folder)], capture_output=True, text=True, check=False
    )
    issues = json.loads(checked.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]
