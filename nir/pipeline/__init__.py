"""A cohort's run: settings, plan, batches of pairs, failures, resources, derivatives."""
