"""NIR over a whole cohort: brains in, registrations, metrics and a report out."""


include: "workflow/rules/common.smk"
include: "workflow/rules/cohort.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/template.smk"
include: "workflow/rules/register.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/fusion.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        RUN.output / "report.html",


onsuccess:
    print(f"\nThe report: {(RUN.output / 'report.html').resolve()}")


onerror:
    print(
        f"\nA step failed: its log is under {RUN.output / 'logs'}. Steps that are done stay done:"
    )
    print(
        "start the same command again to continue. A subject or pair that fails again has a fault"
    )
    print(
        "that the checks do not see: correct it, or take it out of the table, for the report."
    )
