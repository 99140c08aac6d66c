import math
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from nir.errors import NirError
from nir.io import FIELD, FORWARD, INVERSE
from nir.run import FolderLock, note_command, plan_run, share_package, starts_jobs

share_package(workflow.basedir)

if "cohort" not in config:

    configfile: Path(workflow.basedir) / "config" / "demo.yaml"


def show_check(number, total, name):
    """Tell which subject was checked, on one line."""
    if sys.stderr.isatty() or number == total:
        print(f"checked {number} of {total}: {name}", file=sys.stderr, flush=True)


try:
    RUN = plan_run(config, show_check if workflow.is_main_process else None)
    if workflow.is_main_process and starts_jobs(sys.argv[1:]):
        LOCK = FolderLock(RUN.output, Path(".snakemake"))
        note_command(RUN, sys.argv[1:])
except NirError as error:
    print(f"\n{error}\n", file=sys.stderr)
    sys.exit(1)


SETTINGS = RUN.config
BY_ENGINE = {
    engine: [m.name for m in SETTINGS.methods if m.engine == engine]
    for engine in ("affine", "syn", "nir")
}


wildcard_constraints:
    id=r"[A-Za-z0-9_-]+",
    round=r"\d+",
    fixed=r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*",
    moving=r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*",
    method="|".join(RUN.methods),


def megabytes(base, per_megavoxel):
    """Return a resource function: MB linear in the voxels of the job's largest image."""

    def mem_mb(wildcards, attempt):
        names = [v for k, v in wildcards.items() if k in ("id", "fixed", "moving")]
        return int((base + per_megavoxel * RUN.megavoxels(names)) * attempt)

    return mem_mb


def nir_megabytes(wildcards, attempt):
    """Return the memory of a fit, MB, by the estimate that the fit itself prints."""
    from nir.memory import estimate_mb

    grid = RUN.grid(wildcards.fixed)
    return int(1.2 * estimate_mb(grid, RUN.methods[wildcards.method].fit) * attempt)


def template_megabytes(wildcards, attempt):
    """Return the memory of a job on the template's grid, MB."""
    from nir.memory import estimate_mb

    grid, method = RUN.grid("template"), RUN.methods[SETTINGS.template.build.method]
    fit = 1.2 * estimate_mb(grid, method.fit) if method.engine == "nir" else 0
    return int(max(fit, 1200 + 400 * math.prod(grid.shape) / 1e6) * attempt)


def brains(wildcards):
    """Return the prepared files of a pair, by name."""
    return {
        f"{role}_{part}": RUN.prepared(name, part)
        for role, name in (("fixed", wildcards.fixed), ("moving", wildcards.moving))
        for part in ("brain", "mask")
    }


def scans(wildcards):
    """Return the prepared and the original files of a pair, by name."""
    files = brains(wildcards)
    for role, name in (("fixed", wildcards.fixed), ("moving", wildcards.moving)):
        subject = RUN.subject(name)
        files[f"{role}_image"] = str(subject.image)
        if subject.labels:
            files[f"{role}_labels"] = str(subject.labels)
    return files


def analyze_files(wildcards):
    """Return the Analyze image, and its other half, that a scan is imported from."""
    from nir.analyze import halves

    source = RUN.cohort.imports[RUN.raw / f"{wildcards.id}_{wildcards.part}.nii.gz"]
    return [str(source), *(str(half) for half in halves(source) if half != source)]


def raw_files(wildcards):
    """Return the scan of a subject, and its mask where the skull strip needs it."""
    subject = RUN.subject(wildcards.id)
    files = {"image": str(subject.image)}
    if SETTINGS.preprocess.skull_strip == "mask":
        files["mask"] = str(subject.mask)
    if SETTINGS.preprocess.skull_strip == "template":
        files["template"] = RUN.template_files
    return files


def template_affines(wildcards):
    """Return the affines of both subjects to the template; the template needs none."""
    names = {"fixed": wildcards.fixed, "moving": wildcards.moving}
    return {
        f"{role}_{kind}": RUN.prepared(name, f"affine.{suffix}")
        for role, name in names.items()
        if name != "template"
        for kind, suffix in (("matrix", "mat"), ("record", "json"))
    }


def method_settings(wildcards):
    """Return what decides a registration: a change of it, and of nothing else, reruns it."""
    return RUN.methods[wildcards.method].own_settings


def label_names_file(wildcards):
    """Return the table of label names, if there is one."""
    return [str(RUN.label_names)] if RUN.label_names else []


def truth_folder(wildcards):
    """Return the true deformations of a simulated cohort."""
    return [str(RUN.truth)] if RUN.truth else []


def as_fixed(wildcards):
    """Return the files of a subject as moving and of a round's template as fixed brain."""
    number = int(wildcards.round)
    return {
        "fixed_brain": RUN.before_round(number, "brain.nii.gz"),
        "fixed_mask": RUN.before_round(number, "mask.nii.gz"),
        "moving_brain": RUN.prepared(wildcards.id, "brain"),
        "moving_mask": RUN.prepared(wildcards.id, "mask"),
    }


def round_files(wildcards):
    """Return what a round's average is made of."""
    number = int(wildcards.round)
    names = [subject.id for subject in RUN.cohort.subjects]
    files = {
        "brain": RUN.before_round(number, "brain.nii.gz"),
        "mask": RUN.before_round(number, "mask.nii.gz"),
        "brains": [RUN.prepared(n, "brain") for n in names],
        "masks": [RUN.prepared(n, "mask") for n in names],
        "matrices": [RUN.round("affine.mat", number, n) for n in names],
    }
    if number:
        files["warps"] = [RUN.round(FORWARD, number, n) for n in names]
    return files


def atlas_files(wildcards):
    """Return the warped images and labels of all atlases of a subject, and the subject's own."""
    names = RUN.atlases[wildcards.fixed]
    own = RUN.subject(wildcards.fixed).labels
    files = {
        "brain": RUN.prepared(wildcards.fixed, "brain"),
        "truth": [str(own)] if own else [],
    }
    for part, name in (("images", "warped"), ("labels", "warped_labels")):
        files[part] = [
            RUN.result(f"{name}.nii.gz", wildcards.fixed, moving, wildcards.method)
            for moving in names
        ]
    return files
