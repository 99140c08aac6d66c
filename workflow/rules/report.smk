"""From the results of all pairs to tables, pages and derivatives."""


rule gather:
    """Gather the results of all pairs and methods in tables, and list what failed."""
    input:
        [marker for marker, _, _ in INPUTS.evaluated()],
    output:
        metrics=RUN.files.metrics,
        labels=RUN.files.labels,
        failed=RUN.files.failed,
        resources=RUN.files.resources,
    log:
        RUN.log("gather", "all"),
    benchmark:
        RUN.benchmark("gather", "all")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        pairs=INPUTS.evaluated(),
        root=str(RUN.files.pairs),
    script:
        "../scripts/gather.py"


rule report:
    """Write the pages of the cohort and of each registration, and the tables behind them."""
    input:
        metrics=RUN.files.metrics,
        labels=RUN.files.labels,
        fusion=RUN.output / "fusion.tsv" if SETTINGS.fusion else [],
        failed=RUN.files.failed,
        resources=RUN.files.resources,
        ratings=RUN.ratings,
        templates=[
            INPUTS.given(path)
            for path in sorted((Path(workflow.basedir) / "reports").glob("*"))
            if path.suffix != ".rst"
        ],
        prepared=[RUN.files.subject(name).record for name in RUN.participants],
    output:
        page=RUN.files.page,
        record=RUN.files.record,
        methods=table("methods", "Methods side by side"),
        comparisons=table("comparisons", "Methods compared pair by pair"),
        ranking=table("ranking", "Ranking, as in Learn2Reg"),
        verdicts=table("verdicts", "Verdicts"),
        structures=table("structures", "Dice of each structure"),
        outliers=table("outliers", "Outliers"),
        figures=report(
            directory(RUN.output / "figures"),
            patterns=["{plot}.svg"],
            caption="../../reports/figures.rst",
            category="Plots",
            labels={"plot": "{plot}"},
        ),
        worst=report(
            directory(RUN.output / "worst"),
            patterns=["{rank}.{pair}.{method}.{picture}.{suffix}"],
            caption="../../reports/worst.rst",
            category="Worst registrations",
            labels={
                "rank": "{rank}",
                "pair": "{pair}",
                "method": "{method}",
                "picture": "{picture}",
            },
        ),
    log:
        RUN.log("report", "all"),
    benchmark:
        RUN.benchmark("report", "all")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=ASKS.report_megabytes,
        runtime=ASKS.report_minutes,
    params:
        settings=SETTINGS.model_dump(mode="json"),
        pairs=RUN.cohort.pairs,
        methods=list(RUN.methods),
        left_out=RUN.cohort.left_out,
        dropped_pairs=RUN.cohort.dropped_pairs,
        command=str(RUN.files.command),
    script:
        "../scripts/report.py"


rule complete:
    """End the run with an error if a pair failed; the report is written all the same."""
    input:
        page=RUN.files.page,
        failed=RUN.files.failed,
    output:
        RUN.files.complete,
    log:
        RUN.log("complete", "all"),
    retries: 0  # it fails where a registration failed: that does not pass by itself
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/complete.py"


if SETTINGS.cohort.reader.derivatives:

    rule bids_derivatives:
        """Write the results of a BIDS dataset as BIDS derivatives."""
        input:
            [marker for marker, _, _ in INPUTS.evaluated()],
            prepared=[RUN.files.subject(name).record for name in RUN.participants],
            label_names=INPUTS.label_names_file,
        output:
            RUN.files.derivatives / "dataset_description.json",
        log:
            RUN.log("bids_derivatives", "all"),
        benchmark:
            RUN.benchmark("bids_derivatives", "all")
        conda:
            "../../envs/nir.yaml"
        threads: 1
        resources:
            mem_mb=1000,
        params:
            pairs=INPUTS.evaluated(),
            root=str(RUN.files.pairs),
            subjects=str(RUN.files.subjects),
            scans={name: str(path) for name, path in RUN.cohort.scans.items()},
            name=SETTINGS.name,
            own_template=bool(SETTINGS.template.image or SETTINGS.template.build),
        script:
            "../scripts/bids_derivatives.py"
