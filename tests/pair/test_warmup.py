"""What is compiled ahead is all that a registration and its measures ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.tiny import write_cohort

SCRIPT = """
import sys
import nir
from nir.geometry.compiled import compiling, seconds_of
from nir.pair.warmup import warm_up

first = warm_up()
fixed, moving = (f"{sys.argv[1]}/s{n}" for n in (0, 1))
labels = {f"{role}_labels": f"{side}_dseg.nii.gz"
          for role, side in (("fixed", fixed), ("moving", moving))}
with compiling() as heard:
    found = nir.register(f"{fixed}_T1w.nii.gz", f"{moving}_T1w.nii.gz", **labels, device="cpu")
    found.scores()
    found.save(f"{sys.argv[1]}/out")
print(first, seconds_of(heard), warm_up())
"""


def test_after_it_a_registration_compiles_nothing(tmp_path: Path) -> None:
    write_cohort(tmp_path, 2)
    known = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=known, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    first, then, again = map(float, done.stdout.split()[-3:])
    assert first > 0
    assert then == again == 0
