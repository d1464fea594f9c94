# The start weights of trainings are downloaded once, where `snakemake` runs, and a trial is made with
# them.
#
# An existing file is no output of a rule, as with videos: Snakemake would remove it before a job.

# The files to download by path, each with one of the runs that start from it, for the trial.
WEIGHTS_TO_FETCH, RUN_OF_WEIGHTS = {}, {}
for run, (weights, _) in START_WEIGHTS.items():
    if weights and weights.needs_download:
        WEIGHTS_TO_FETCH[weights.path] = weights
        RUN_OF_WEIGHTS[weights.path] = run

if WEIGHTS_TO_FETCH:

    rule weights:
        output:
            files=list(WEIGHTS_TO_FETCH),
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
            # The job makes these into `StartWeights` again.
            weights=[vars(weights) for weights in WEIGHTS_TO_FETCH.values()],
            trials=lambda wildcards: [trial_of(run) for run in RUN_OF_WEIGHTS.values()],
        message:
            "Fetch the start weights "
            + ", ".join(weights.source for weights in WEIGHTS_TO_FETCH.values())
        script:
            "../workflow/scripts/weights.py"
