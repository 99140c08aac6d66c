rule warp:
    input:
        unpack(scans),
        forward=RUN.result(FORWARD),
    output:
        warped=RUN.result("warped.nii.gz"),
        jacobian=RUN.result("jacobian.nii.gz"),
        labels=RUN.result("warped_labels.nii.gz") if RUN.all_labelled else [],
    log:
        RUN.log("warp", "{fixed}__{moving}__{method}"),
    benchmark:
        RUN.benchmark("warp", "{fixed}__{moving}__{method}")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(800, 150),
    params:
        interpolation=SETTINGS.label_interpolation,
    script:
        "../scripts/warp.py"


rule evaluate:
    input:
        unpack(scans),
        matrix=RUN.pair("affine.mat"),
        affine=RUN.pair("affine.json"),
        forward=RUN.result(FORWARD),
        inverse=RUN.result(INVERSE),
        fit=RUN.result("fit.json"),
        warped=RUN.result("warped.nii.gz"),
        jacobian=RUN.result("jacobian.nii.gz"),
        label_names=label_names_file,
        truth=truth_folder,
    output:
        result=RUN.result("result.json"),
        labels=RUN.result("labels.tsv"),
    log:
        RUN.log("evaluate", "{fixed}__{moving}__{method}"),
    benchmark:
        RUN.benchmark("evaluate", "{fixed}__{moving}__{method}")
    conda:
        "../../envs/nir.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000, 400),
    params:
        interpolation=SETTINGS.label_interpolation,
        include=SETTINGS.cohort.labels,
        exclude=SETTINGS.cohort.labels_exclude,
    script:
        "../scripts/evaluate.py"
