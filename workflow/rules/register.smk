"""Affines and registrations of the pairs."""

if SETTINGS.affine.target == "template":

    rule affine_to_template:
        """Align a subject to the template by an affine."""
        input:
            fixed_brain=RUN.files.subject("template").brain,
            fixed_mask=RUN.files.subject("template").mask,
            moving_brain=RUN.files.subject("{id}").brain,
            moving_mask=RUN.files.subject("{id}").mask,
        output:
            matrix=RUN.files.subject("{id}").affine,
            record=RUN.files.subject("{id}").affine_record,
        log:
            RUN.log("affine_to_template", "{id}"),
        benchmark:
            RUN.benchmark("affine_to_template", "{id}")
        conda:
            "../../envs/nir.yaml"
        threads: 1  # ANTs repeats its affine bit by bit on one thread only
        resources:
            mem_mb=ASKS.megabytes(850, 100, also=["template"]),
            runtime=ASKS.minutes(2, 0.5),
        params:
            settings=SETTINGS.affine.model_dump(mode="json"),
            seed=SETTINGS.seed,
        script:
            "../scripts/align_subject.py"


# Stages of a batch of pairs. Their results lie in pairs/; the markers tell what is done. They
# are tried again on any machine, since a pair that kills its process is given up at last.
rule affine:
    """Align the pairs of a batch by affines."""
    input:
        INPUTS.files_for()
        if SETTINGS.affine.target == "fixed"
        else INPUTS.template_affine_files,
    output:
        marker=RUN.marker("affine"),
    log:
        RUN.log("affine", "{batch}"),
    benchmark:
        RUN.benchmark("affine", "{batch}")
    retries: BATCH_RETRIES
    conda:
        "../../envs/nir.yaml"
    threads: 1  # ANTs repeats its affine bit by bit on one thread only
    resources:
        attempt=ASKS.which_attempt,
        mem_mb=ASKS.megabytes(850, 100) if SETTINGS.affine.target == "fixed" else 1000,
        runtime=ASKS.minutes(1, 0.3) if SETTINGS.affine.target == "fixed" else 5,
    params:
        batch=INPUTS.batch_for(),
        settings=SETTINGS.affine.model_dump(mode="json"),
        seed=SETTINGS.seed,
        through=(
            INPUTS.template_affines if SETTINGS.affine.target == "template" else None
        ),
    script:
        "../scripts/affine.py"


for engine in dict.fromkeys(method.engine for method in SETTINGS.methods):
    CARD = ENGINES[engine]

    rule:
        """Register the pairs of a batch by one method."""
        name:
            f"register_{engine}"
        input:
            INPUTS.files_for(CARD.guides),
            affine=RUN.marker("affine"),
        output:
            marker=RUN.marker("register", method="{method}"),
        log:
            RUN.log(f"register_{engine}", "{batch}__{method}"),
        benchmark:
            RUN.benchmark(f"register_{engine}", "{batch}__{method}")
        wildcard_constraints:
            method="|".join(m.name for m in SETTINGS.methods if m.engine == engine),
        retries: BATCH_RETRIES
        conda:
            "../../envs/nir-cuda.yaml"
            if CARD.on_gpu and SETTINGS.device == "cuda"
            else "../../envs/nir.yaml"
        threads: SETTINGS.threads if CARD.threaded else 1
        resources:
            attempt=ASKS.which_attempt,
            mem_mb=ASKS.register_megabytes,
            gpu=int(CARD.on_gpu and SETTINGS.device == "cuda"),
            runtime=ASKS.register_minutes,
        params:
            batch=INPUTS.batch_for(CARD.guides),
            guidance={k: v for k, v in GUIDANCE.items() if k in CARD.guides},
            method=INPUTS.method_settings,
            seed=SETTINGS.seed,
            device=ASKS.device_of,
            field=SETTINGS.save_fields,
            keep=SETTINGS.keep,
        script:
            "../scripts/register.py"
