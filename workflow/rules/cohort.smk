"""Scans that the run makes or imports itself."""

if SETTINGS.cohort.kind == "demo":

    rule demo_cohort:
        """Simulate the demo cohort, and check it like any other."""
        output:
            table=RUN.raw / "participants.tsv",
            labels=RUN.raw / "labels.tsv",
            truth=directory(RUN.raw / "truth"),
            images=[
                path
                for subject in RUN.cohort.subjects
                for path in (subject.image, subject.labels, subject.mask)
            ],
        log:
            RUN.log("demo_cohort", "all"),
        benchmark:
            RUN.benchmark("demo_cohort", "all")
        conda:
            "../../envs/nir.yaml"
        threads: 2
        resources:
            mem_mb=4000,
        params:
            settings=SETTINGS.cohort.demo.model_dump(mode="json"),
        script:
            "../scripts/demo_cohort.py"


if RUN.cohort.imports:

    rule import_analyze:
        """Write an Analyze image as NIfTI, its axes as declared."""
        input:
            INPUTS.analyze_files,
        output:
            image=RUN.raw / "{id}_{part}.nii.gz",
        log:
            RUN.log("import_analyze", "{id}_{part}"),
        benchmark:
            RUN.benchmark("import_analyze", "{id}_{part}")
        wildcard_constraints:
            part=r"T1w|dseg|mask|exclude|channel\d+",
        conda:
            "../../envs/nir.yaml"
        threads: 1
        resources:
            mem_mb=1500,
        params:
            orientation=SETTINGS.cohort.orientation,
        script:
            "../scripts/import_analyze.py"
