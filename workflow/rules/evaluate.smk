rule evaluate:
    input:
        files_for("evaluate"),
        affine=RUN.marker("affine"),
        register=RUN.marker("register", method="{method}"),
        label_names=label_names_file,
        truth=truth_folder,
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
        attempt=which_attempt,
        mem_mb=evaluate_megabytes,
        runtime=minutes(2, 5) if SETTINGS.keep == "metrics" else minutes(1, 0.5),
        gpu=evaluate_gpu,
    params:
        batch=batch_for("evaluate"),
        guidance=GUIDANCE,
        method=method_settings,
        seed=SETTINGS.seed,
        device=device_of,
        field=SETTINGS.save_fields,
        keep=SETTINGS.keep,
        interpolation=SETTINGS.label_interpolation,
        include=SETTINGS.cohort.labels,
        exclude=SETTINGS.labels_unscored,
    script:
        "../scripts/batch_evaluate.py"
