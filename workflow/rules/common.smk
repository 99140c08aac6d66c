"""The plan of a run, on which all rules look: settings, cohort, and what begins once."""

import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from nir.engines.base import ENGINES
from nir.errors import NirError
from nir.io.written import gather_settings
from nir.pipeline.asks import Asks
from nir.pipeline.batch import ATTEMPTS
from nir.pipeline.ending import when_done, when_not_done
from nir.pipeline.inputs import Inputs
from nir.pipeline.run import plan_run
from nir.pipeline.start import follow_snakemake, share_package

share_package(workflow.basedir)

if "cohort" not in config:

    configfile: Path(workflow.basedir) / "config" / "demo.yaml"


def show_check(number, total, name):
    """Tell which subject was checked, on one line."""
    if sys.stderr.isatty() or number == total:
        print(f"checked {number} of {total}: {name}", file=sys.stderr, flush=True)


try:
    # Snakemake's own reading of the files has lost what is text, and keys that are there twice
    told = workflow.config_settings
    own = workflow.configfiles[len(told.configfiles) :]
    written = gather_settings([Path(p) for p in (*own, *told.configfiles)], told.config)
    checks = Path(".snakemake") / "nir-checks.json"  # a dry run writes no results
    RUN = plan_run(written, show_check if workflow.is_main_process else None, checks)
    if workflow.is_main_process:
        follow_snakemake(workflow, RUN)
except NirError as error:
    print(f"\n{error}\n", file=sys.stderr)
    sys.exit(1)


SETTINGS = RUN.config
ASKS = Asks(RUN)
INPUTS = Inputs(RUN)
GUIDANCE = SETTINGS.guidance.model_dump(mode="json")
# By the run itself, which asks for more each time; not within a cluster's job
BATCH_RETRIES = ATTEMPTS - 1 if workflow.is_main_process else 0


wildcard_constraints:
    id=r"[A-Za-z0-9_-]+",
    round=r"\d+",
    fixed=r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*",
    batch=r"[A-Za-z0-9_-]+",
    method="|".join(RUN.methods),


def table(name, title):
    """Return a table of the results, for Snakemake's own report, too."""
    return report(
        RUN.output / f"{name}.tsv",
        caption=f"../../reports/{name}.rst",
        category="Tables",
        labels={"table": title},
    )
