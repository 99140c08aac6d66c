"""Scans to brains."""


rule preprocess:
    """Skull-strip, correct and normalise one scan."""
    input:
        unpack(INPUTS.raw_files),
    output:
        brain=RUN.files.subject("{id}").brain,
        mask=RUN.files.subject("{id}").mask,
        channels=RUN.channels(),
        picture=RUN.files.subject("{id}").picture,
        record=RUN.files.subject("{id}").record,
    log:
        RUN.log("preprocess", "{id}"),
    benchmark:
        RUN.benchmark("preprocess", "{id}")
    wildcard_constraints:
        id="(?!template/)[A-Za-z0-9_-]+",
    conda:
        "../../envs/nir.yaml"
    threads: 1  # ANTs repeats its transforms bit by bit on one thread only
    resources:
        mem_mb=ASKS.megabytes(1500, 250),
        runtime=ASKS.minutes(5, 1),
    params:
        settings=SETTINGS.preprocess.model_dump(mode="json"),
        template=INPUTS.strip_settings,
        seed=SETTINGS.seed,
    script:
        "../scripts/preprocess.py"
