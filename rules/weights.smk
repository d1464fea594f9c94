# The start weights of trainings are fetched once, where `snakemake` runs, and a trial is made with
# them.
#
# An existing file is no output of a rule, as with videos: Snakemake would remove it before a job.

if TO_FETCH:

    rule weights:
        output:
            files=[*TO_FETCH],
        log:
            "results/logs/weights.log",
        priority: 100
        retries: 0
        localrule: True
        conda:
            "../envs/epic100.yaml"
        resources:
            mem_mb=4000,
            runtime=60,
            download=1,
        params:
            weights=[vars(weights) for weights, _ in TO_FETCH.values()],
            trials=lambda wildcards: [trial_of(run) for _, run in TO_FETCH.values()],
        message:
            "Fetch the start weights "
            + ", ".join(weights.source for weights, _ in TO_FETCH.values())
        script:
            "../workflow/scripts/weights.py"
