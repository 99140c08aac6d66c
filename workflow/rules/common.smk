import math
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from nir.pipeline.batch import ATTEMPTS
from nir.io.layout import pair_name
from nir.errors import NirError
from nir.io.layout import FIELD, FORWARD, INVERSE
from nir.pipeline.start import FolderLock, note_command, share_package, starts_jobs
from nir.pipeline.run import plan_run

share_package(workflow.basedir)

if "cohort" not in config:

    configfile: Path(workflow.basedir) / "config" / "demo.yaml"


def show_check(number, total, name):
    """Tell which subject was checked, on one line."""
    if sys.stderr.isatty() or number == total:
        print(f"checked {number} of {total}: {name}", file=sys.stderr, flush=True)


try:
    RUN = plan_run(config, show_check if workflow.is_main_process else None)
    if workflow.is_main_process:
        RUN.check_dates()
    if workflow.is_main_process and starts_jobs(sys.argv[1:]):
        LOCK = FolderLock(RUN.output, Path(".snakemake"))
        note_command(RUN, sys.argv[1:])
        RUN.start()
        print(RUN.disk_note(), file=sys.stderr)
    elif workflow.is_main_process and (redo := len(RUN.markers_to_redo())):
        print(
            f"{redo} batches with failed or lost pairs: a run begins them again.",
            file=sys.stderr,
        )
except NirError as error:
    print(f"\n{error}\n", file=sys.stderr)
    sys.exit(1)


SETTINGS = RUN.config
GUIDANCE = SETTINGS.guidance.model_dump(mode="json")
BY_ENGINE = {
    engine: [m.name for m in SETTINGS.methods if m.engine == engine]
    for engine in ("affine", "syn", "nir")
}


wildcard_constraints:
    id=r"[A-Za-z0-9_-]+",
    round=r"\d+",
    fixed=r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*",
    batch=r"[A-Za-z0-9_-]+",
    method="|".join(RUN.methods),


def names_of(wildcards):
    """Return the subjects that a job is about."""
    batch = wildcards.get("batch")
    return RUN.members(batch) if batch else [wildcards.get("id") or wildcards.fixed]


# A cluster counts the Snakemakes in a job, two of 125 MB, with the rule's own memory.
SNAKEMAKE_MB = 350


# By the run itself, which asks for more each time; not within a cluster's job
BATCH_RETRIES = ATTEMPTS - 1 if workflow.is_main_process else 0


def which_attempt(wildcards, attempt):
    """Return the number of a batch's attempt, the first is 1; see nir/pipeline/batch.py."""
    return attempt


def growth(attempt):
    """Return how many times the first attempt's memory and time are asked for.

    The last attempt of a batch, which gives up pairs, needs no more than the one before.
    """
    return min(attempt, ATTEMPTS - 1)


def megabytes(base, per_megavoxel, also=()):
    """Return a resource function: MB linear in the voxels of the job's largest image.

    ``also`` names images beside those of the job's own subjects.

    The rules' numbers are a quarter above what resources.tsv of the real brains in
    benchmarks/ and of the smallest images in the tests showed.
    """

    def mem_mb(wildcards, attempt):
        largest = RUN.megavoxels([*names_of(wildcards), *also])
        own = base + per_megavoxel * largest
        return int((SNAKEMAKE_MB + own) * growth(attempt))

    return mem_mb


def nir_megabytes(wildcards, attempt):
    """Return the memory of the fits of a batch, MB, by the estimate that the fits print."""
    from nir.fit.memory import estimate_mb

    fit = RUN.methods[wildcards.method].fit
    sides = zip(*RUN.batches[wildcards.batch])
    fixed, moving = (RUN.largest_grid(set(names)) for names in sides)
    contrasts = 1 + len(RUN.channels())
    own = 1.2 * estimate_mb(fixed, fit, fixed, moving, contrasts)
    return int((SNAKEMAKE_MB + own) * growth(attempt))


def evaluate_megabytes(wildcards, attempt):
    """Return the memory of an evaluation, MB; without kept transforms it may have to fit again."""
    own = megabytes(600, 150)(wildcards, attempt)
    if SETTINGS.keep == "metrics" and RUN.methods[wildcards.method].engine == "nir":
        return max(own, nir_megabytes(wildcards, attempt))
    return own


def evaluate_gpu(wildcards):
    """Return the GPUs of an evaluation: one where it may have to fit again."""
    return int(SETTINGS.keep == "metrics" and device_of(wildcards) == "cuda")


def minutes(base, per_megavoxel):
    """Return a resource function: minutes, linear in the voxels and in the pairs of a batch."""

    def runtime(wildcards, attempt):
        batch = wildcards.get("batch")
        pairs = len(RUN.batches[batch]) if batch else 1
        each = base + per_megavoxel * RUN.megavoxels(names_of(wildcards))
        return math.ceil((3 + pairs * each) * growth(attempt))

    return runtime


def report_megabytes(wildcards, attempt):
    """Return the memory of the report, MB: all registrations' scores and sentences at once."""
    return int((1500 + len(RUN.cohort.pairs) * len(RUN.methods) / 4) * growth(attempt))


def report_minutes(wildcards, attempt):
    """Return the time of the report, minutes: a page for every registration."""
    return math.ceil(
        (10 + len(RUN.cohort.pairs) * len(RUN.methods) / 300) * growth(attempt)
    )


def fusion_megabytes(wildcards, attempt):
    """Return the memory of a fusion, MB: every atlas takes its share."""
    count = len(RUN.atlases[wildcards.fixed])
    return megabytes(600, 60 * count)(wildcards, attempt)


def template_megabytes(wildcards, attempt):
    """Return the memory of a job on the template's grid, MB."""
    from nir.fit.memory import estimate_mb

    grid, method = RUN.grid("template"), RUN.methods[SETTINGS.template.build.method]
    moving = RUN.largest_grid(subject.id for subject in RUN.cohort.subjects)
    is_nir = method.engine == "nir"
    fit = 1.2 * estimate_mb(grid, method.fit, grid, moving) if is_nir else 0
    own = max(fit, 1200 + 400 * math.prod(grid.shape) / 1e6)
    return int((SNAKEMAKE_MB + own) * growth(attempt))


def files_for(reader):
    """Return an input function: the files of all subjects of a batch that someone reads."""

    def files(wildcards):
        found = [RUN.brain_files(name, reader) for name in RUN.members(wildcards.batch)]
        return list(dict.fromkeys(path for some in found for path in some if path))

    return files


def batch_for(reader):
    """Return a parameter function: which pairs a job works on, and the files that it reads."""

    def batch(wildcards):
        return {
            "pairs": RUN.batches[wildcards.batch],
            "root": str(RUN.output / "pairs"),
            "brains": {
                n: RUN.brain_files(n, reader) for n in RUN.members(wildcards.batch)
            },
        }

    return batch


def analyze_files(wildcards):
    """Return the Analyze image, and its other half, that a scan is imported from."""
    from nir.io.analyze import halves

    source = RUN.cohort.imports[RUN.raw / f"{wildcards.id}_{wildcards.part}.nii.gz"]
    return [str(source), *(str(half) for half in halves(source) if half != source)]


def raw_files(wildcards):
    """Return the scans of a subject, and its mask where the skull strip needs it."""
    subject = RUN.subject(wildcards.id)
    files = {
        "image": str(subject.image),
        "channels": [str(path) for path in subject.channels],
    }
    if SETTINGS.preprocess.skull_strip == "mask":
        files["mask"] = str(subject.mask)
    if SETTINGS.preprocess.skull_strip == "template":
        files["template"] = RUN.template_files
    return files


def template_affines(wildcards):
    """Return each subject's affine to the template and its record; the template needs none."""
    names = [name for name in RUN.members(wildcards.batch) if name != "template"]
    return {
        name: [RUN.prepared(name, f"affine.{suffix}") for suffix in ("mat", "json")]
        for name in names
    }


def template_affine_files(wildcards):
    """Return the files of `template_affines`."""
    return [path for files in template_affines(wildcards).values() for path in files]


def method_settings(wildcards):
    """Return what decides a registration: a change of it, and of nothing else, reruns it."""
    return RUN.methods[wildcards.method].own_settings


def device_of(wildcards):
    """Return where a method computes: only the neural field knows another device than the CPU."""
    engine = RUN.methods[wildcards.method].engine
    return SETTINGS.device if engine == "nir" else "cpu"


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


def atlas_pairs(wildcards):
    """Return the atlases of a subject: marker, name of the pair, warped image and labels."""
    found = []
    for moving in RUN.atlases[wildcards.fixed]:
        pair = (wildcards.fixed, moving)
        marker = RUN.marker("evaluate", RUN.batch_of(*pair), wildcards.method)
        files = [
            RUN.result(f"{part}.nii.gz", *pair, wildcards.method)
            for part in ("warped", "warped_labels")
        ]
        found.append([marker, pair_name(*pair), *files])
    return found


def atlas_files(wildcards):
    """Return the subject's own files and the markers of the batches of its atlases."""
    own = RUN.subject(wildcards.fixed).labels
    return {
        "brain": RUN.prepared(wildcards.fixed, "brain"),
        "truth": [str(own)] if own else [],
        "markers": list(dict.fromkeys(entry[0] for entry in atlas_pairs(wildcards))),
    }


def evaluated():
    """Return the markers of all batches and methods, each with its pairs."""
    return [
        (RUN.marker("evaluate", batch, method), method, pairs)
        for batch, pairs in RUN.batches.items()
        for method in RUN.methods
    ]
