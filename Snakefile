"""NIR over a whole cohort: brains in, registrations, metrics and a report out."""


report: "reports/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/cohort.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/template.smk"
include: "workflow/rules/register.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/fusion.smk"
include: "workflow/rules/report.smk"


rule all:
    """Make the report, and end with an error if a registration failed."""
    default_target: True
    input:
        RUN.files.page,
        RUN.files.complete,
        RUN.files.derivatives / "dataset_description.json"
        if SETTINGS.cohort.reader.derivatives
        else [],


onsuccess:
    print(when_done(RUN, workflow.dag.jobs))


onerror:
    print(when_not_done(RUN))
