"""How well the pairs are registered."""


rule evaluate:
    """Warp, measure and draw the pairs of a batch, registered by one method."""
    input:
        INPUTS.files_for(scored=True),
        affine=RUN.marker("affine"),
        register=RUN.marker("register", method="{method}"),
        label_names=INPUTS.label_names_file,
        truth=INPUTS.truth_folder,
    output:
        marker=RUN.marker("evaluate", method="{method}"),
    log:
        RUN.log("evaluate", "{batch}__{method}"),
    benchmark:
        RUN.benchmark("evaluate", "{batch}__{method}")
    priority: 1  # before more registrations: what is not kept goes early
    retries: BATCH_RETRIES
    conda:
        "../../envs/nir.yaml"
    threads: SETTINGS.threads if SETTINGS.keep == "metrics" else 1
    resources:
        attempt=ASKS.which_attempt,
        mem_mb=ASKS.evaluate_megabytes,
        runtime=ASKS.evaluate_minutes,
        gpu=ASKS.evaluate_gpu,
    params:
        batch=INPUTS.batch_for(scored=True),
        guidance=GUIDANCE,
        method=INPUTS.method_settings,
        seed=SETTINGS.seed,
        device=ASKS.device_of,
        field=SETTINGS.save_fields,
        keep=SETTINGS.keep,
        interpolation=SETTINGS.label_interpolation,
        include=SETTINGS.cohort.labels,
        exclude=SETTINGS.labels_unscored,
    script:
        "../scripts/evaluate.py"
