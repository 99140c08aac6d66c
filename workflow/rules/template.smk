"""The template: one that is given, or an average of the cohort built in rounds."""

BUILD = SETTINGS.template.build


rule template:
    """Write the given template, or the one that the rounds start from, as if it were a subject."""
    input:
        INPUTS.template_files,
    output:
        brain=(
            RUN.files.before_round(0).brain
            if BUILD
            else RUN.files.subject("template").brain
        ),
        mask=(
            RUN.files.before_round(0).mask
            if BUILD
            else RUN.files.subject("template").mask
        ),
    log:
        RUN.log("template", "template"),
    benchmark:
        RUN.benchmark("template", "template")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=SETTINGS.template.model_dump(mode="json"),
    script:
        "../scripts/template.py"


if BUILD:
    BUILDER = RUN.methods[BUILD.method]
    ROUNDS = range(BUILD.rounds + 1)
    ROUND = RUN.files.round("{round}")
    MEMBER = ROUND.member("{id}")

    rule round_affine:
        """Align a subject to the average of the round before by an affine."""
        input:
            unpack(INPUTS.as_fixed),
        output:
            matrix=MEMBER.affine,
            record=MEMBER.affine_record,
        log:
            RUN.log("round_affine", "{round}__{id}"),
        benchmark:
            RUN.benchmark("round_affine", "{round}__{id}")
        conda:
            "../../envs/nir.yaml"
        threads: 1  # ANTs repeats its affine bit by bit on one thread only
        resources:
            mem_mb=ASKS.megabytes(850, 100, also=["template"]),
        params:
            settings=SETTINGS.affine.model_dump(mode="json"),
            seed=SETTINGS.seed,
        script:
            "../scripts/align_subject.py"

    rule round_register:
        """Register a subject to the average of the round before."""
        input:
            unpack(INPUTS.as_fixed),
            matrix=MEMBER.affine,
        output:
            forward=temp(MEMBER.forward),
            inverse=temp(MEMBER.inverse),
            trace=MEMBER.trace,
            record=MEMBER.fit,
        log:
            RUN.log("round_register", "{round}__{id}"),
        benchmark:
            RUN.benchmark("round_register", "{round}__{id}")
        conda:
            "../../envs/nir.yaml"
        threads: SETTINGS.threads if BUILDER.card.threaded else 1
        resources:
            mem_mb=ASKS.template_megabytes,
            gpu=int(ASKS.device(BUILDER) == "cuda"),
        params:
            method=BUILDER.own_settings,
            seed=SETTINGS.seed,
            device=ASKS.device(BUILDER),
        script:
            "../scripts/round_register.py"

    rule round_average:
        """Average the subjects that a round registered."""
        input:
            unpack(INPUTS.round_files),
        output:
            brain=ROUND.brain,
            mask=ROUND.mask,
            record=ROUND.record,
        log:
            RUN.log("round_average", "{round}"),
        benchmark:
            RUN.benchmark("round_average", "{round}")
        conda:
            "../../envs/nir.yaml"
        threads: 1
        resources:
            mem_mb=ASKS.template_megabytes,
        params:
            sharpening=BUILD.sharpening,
        script:
            "../scripts/round_average.py"

    rule template_of_the_last_round:
        """Take the last round's average as the template, and tell how the rounds converged."""
        input:
            records=[RUN.files.round(n).record for n in ROUNDS],
            brain=RUN.files.round(ROUNDS[-1]).brain,
            mask=RUN.files.round(ROUNDS[-1]).mask,
        output:
            brain=RUN.files.subject("template").brain,
            mask=RUN.files.subject("template").mask,
            table=RUN.files.subject("template").convergence,
            plot=RUN.files.subject("template").path / "convergence.png",
        log:
            RUN.log("template_of_the_last_round", "template"),
        benchmark:
            RUN.benchmark("template_of_the_last_round", "template")
        conda:
            "../../envs/nir.yaml"
        threads: 1
        resources:
            mem_mb=1500,
        script:
            "../scripts/template_of_the_last_round.py"
