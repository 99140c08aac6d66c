if SETTINGS.affine.target == "fixed":

    rule affine:
        input:
            unpack(brains),
        output:
            matrix=RUN.pair("affine.mat"),
            record=RUN.pair("affine.json"),
        log:
            RUN.log("affine", "{fixed}__{moving}"),
        benchmark:
            RUN.benchmark("affine", "{fixed}__{moving}")
        conda:
            "../../envs/nir.yaml"
        threads: 1  # ANTs repeats its affine bit by bit on one thread only
        resources:
            mem_mb=megabytes(1500, 200),
        params:
            settings=SETTINGS.affine.model_dump(mode="json"),
            seed=SETTINGS.seed,
        script:
            "../scripts/affine.py"

else:

    rule affine_to_template:
        input:
            fixed_brain=RUN.prepared("template", "brain"),
            fixed_mask=RUN.prepared("template", "mask"),
            moving_brain=RUN.prepared("{id}", "brain"),
            moving_mask=RUN.prepared("{id}", "mask"),
        output:
            matrix=RUN.prepared("{id}", "affine.mat"),
            record=RUN.prepared("{id}", "affine.json"),
        log:
            RUN.log("affine_to_template", "{id}"),
        benchmark:
            RUN.benchmark("affine_to_template", "{id}")
        conda:
            "../../envs/nir.yaml"
        threads: 1  # ANTs repeats its affine bit by bit on one thread only
        resources:
            mem_mb=megabytes(1500, 200),
        params:
            settings=SETTINGS.affine.model_dump(mode="json"),
            seed=SETTINGS.seed,
        script:
            "../scripts/affine.py"

    rule affine:
        input:
            unpack(template_affines),
        output:
            matrix=RUN.pair("affine.mat"),
            record=RUN.pair("affine.json"),
        log:
            RUN.log("affine", "{fixed}__{moving}"),
        benchmark:
            RUN.benchmark("affine", "{fixed}__{moving}")
        conda:
            "../../envs/nir.yaml"
        threads: 1
        resources:
            mem_mb=500,
        script:
            "../scripts/affine_through_template.py"


for engine, names in BY_ENGINE.items():

    if not names:
        continue

    rule:
        name:
            f"register_{engine}"
        input:
            unpack(brains),
            matrix=RUN.pair("affine.mat"),
        output:
            forward=RUN.result(FORWARD),
            inverse=RUN.result(INVERSE),
            trace=RUN.result("trace.tsv"),
            record=RUN.result("fit.json"),
            field=RUN.result(FIELD) if engine == "nir" and SETTINGS.save_fields else [],
        log:
            RUN.log(f"register_{engine}", "{fixed}__{moving}__{method}"),
        benchmark:
            RUN.benchmark(f"register_{engine}", "{fixed}__{moving}__{method}")
        wildcard_constraints:
            method="|".join(names),
        conda:
            "../../envs/nir.yaml"
        threads: 1 if engine == "affine" else SETTINGS.threads
        resources:
            mem_mb=nir_megabytes if engine == "nir" else megabytes(1200, 350),
            gpu=1 if engine == "nir" and SETTINGS.device == "cuda" else 0,
        params:
            method=method_settings,
            seed=SETTINGS.seed,
            device=SETTINGS.device if engine == "nir" else "cpu",
        script:
            "../scripts/register.py"
