"""Write the page of the cohort."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake) as made:
    from nir.report.write import write_cohort_page

    made += write_cohort_page(
        Path(snakemake.output.page),
        snakemake.params.settings,
        prepared=[Path(p) for p in snakemake.input.prepared],
        pairs=snakemake.params.pairs,
        methods=snakemake.params.methods,
        left_out=snakemake.params.left_out,
        dropped_pairs=snakemake.params.dropped_pairs,
        command=Path(snakemake.params.command).read_text(encoding="utf-8").strip(),
        templates=Path(snakemake.input.templates[0]).parent,
        fusion=Path(str(snakemake.input.fusion)) if snakemake.input.get("fusion") else None,
        ratings=Path(str(snakemake.input.ratings)) if snakemake.input.get("ratings") else None,
    )
