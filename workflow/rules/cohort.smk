"""Scans that the run makes or imports itself."""

if SETTINGS.cohort.reader.builds:

    rule build_cohort:
        """Build the files of a cohort as its reader does, and check them like any other."""
        output:
            files=[path for subject in RUN.cohort.subjects for path in subject.files],
            label_names=(
                [] if SETTINGS.cohort.label_names else INPUTS.label_names_file(None)
            ),
            truth=directory(INPUTS.truth_folder(None)),
        log:
            RUN.log("build_cohort", "all"),
        benchmark:
            RUN.benchmark("build_cohort", "all")
        conda:
            "../../envs/nir.yaml"
        threads: 2
        resources:
            mem_mb=4000,
        params:
            settings=SETTINGS.cohort.model_dump(mode="json"),
            folder=lambda wildcards: str(RUN.files.raw),
        script:
            "../scripts/build_cohort.py"


if RUN.cohort.imports:

    rule import_analyze:
        """Write an image that does not tell its orientation, its axes as declared."""
        input:
            INPUTS.analyze_files,
        output:
            image=RUN.files.raw / "{id}_{part}.nii.gz",
        log:
            RUN.log("import_analyze", "{id}_{part}"),
        benchmark:
            RUN.benchmark("import_analyze", "{id}_{part}")
        wildcard_constraints:
            part=r"image|dseg|mask|exclude|channel\d+",
        conda:
            "../../envs/nir.yaml"
        threads: 1
        resources:
            mem_mb=1500,
        params:
            orientation=SETTINGS.cohort.orientation,
        script:
            "../scripts/import_analyze.py"
