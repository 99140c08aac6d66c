"""Labels by several atlases: every labelled moving subject of a fixed one votes."""

if SETTINGS.fusion:
    FUSED = [(fixed, method) for fixed in RUN.atlases for method in RUN.methods]

    rule fuse:
        """Fuse the labels of all atlases of one subject."""
        input:
            unpack(INPUTS.atlas_files),
        output:
            record=RUN.fused("fusion.json"),
        log:
            RUN.log("fuse", "{fixed}__{method}"),
        benchmark:
            RUN.benchmark("fuse", "{fixed}__{method}")
        conda:
            "../../envs/nir.yaml"
        threads: 1  # the joint fusion of ANTs takes no more
        resources:
            mem_mb=ASKS.fusion_megabytes,
            runtime=ASKS.minutes(10, 10),
        params:
            atlases=INPUTS.atlas_pairs,
            votes=SETTINGS.fusion,
            include=SETTINGS.cohort.labels,
            exclude=SETTINGS.labels_unscored,
        script:
            "../scripts/fuse.py"

    rule gather_fusion:
        """Gather the scores of all fused label maps in one table."""
        input:
            [RUN.fused("fusion.json", fixed, method) for fixed, method in FUSED],
        output:
            table=RUN.output / "fusion.tsv",
            about=RUN.output / "fusion.json",
        log:
            RUN.log("gather_fusion", "all"),
        benchmark:
            RUN.benchmark("gather_fusion", "all")
        conda:
            "../../envs/nir.yaml"
        threads: 1
        resources:
            mem_mb=1000,
        params:
            targets=FUSED,
        script:
            "../scripts/gather_fusion.py"
