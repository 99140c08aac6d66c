rule figure:
    input:
        unpack(scans),
        matrix=RUN.pair("affine.mat"),
        forward=RUN.result(FORWARD),
        fit=RUN.result("fit.json"),
        warped=RUN.result("warped.nii.gz"),
        jacobian=RUN.result("jacobian.nii.gz"),
    output:
        full=RUN.result("figure.png"),
        thumbnail=RUN.result("thumbnail.png"),
    log:
        RUN.log("figure", "{fixed}__{moving}__{method}"),
    benchmark:
        RUN.benchmark("figure", "{fixed}__{moving}__{method}")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000, 250),
    script:
        "../scripts/figure.py"


rule gather:
    input:
        results=RUN.results("result.json"),
        labels=RUN.results("labels.tsv"),
    output:
        metrics=RUN.output / "metrics.tsv",
        labels=RUN.output / "labels.tsv",
    log:
        RUN.log("gather", "all"),
    benchmark:
        RUN.benchmark("gather", "all")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/gather.py"


rule report:
    input:
        metrics=RUN.output / "metrics.tsv",
        labels=RUN.output / "labels.tsv",
        fusion=RUN.output / "fusion.tsv" if SETTINGS.fusion else [],
        figures=RUN.results("figure.png"),
        thumbnails=RUN.results("thumbnail.png"),
        templates=sorted((Path(workflow.basedir) / "reports").glob("*")),
        prepared=[RUN.prepared(s.id, "preprocess.json") for s in RUN.cohort.subjects],
    output:
        page=RUN.output / "report.html",
    log:
        RUN.log("report", "all"),
    benchmark:
        RUN.benchmark("report", "all")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        config=SETTINGS.model_dump(mode="json"),
        pairs=RUN.cohort.pairs,
        methods=list(RUN.methods),
        left_out=RUN.cohort.left_out,
        dropped_pairs=RUN.cohort.dropped_pairs,
        command=str(RUN.command),
    script:
        "../scripts/report.py"
