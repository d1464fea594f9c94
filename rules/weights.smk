"""The weights that training starts from: fetched once, where `snakemake` runs, compared with the
model, and kept.

As with videos, an existing file is not a rule's output: Snakemake would remove it before a job.
"""

if WEIGHTS and WEIGHTS.is_url and not os.path.lexists(WEIGHTS.path):

    rule weights:
        output:
            file=WEIGHTS.path,
        log:
            "results/logs/weights.log",
        priority: 100
        localrule: True
        conda:
            "../envs/epic100.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
            download=1,
        params:
            weights=vars(WEIGHTS),
            settings=CONFIG["download"],
            train=lambda wildcards: start_check(CONFIG["train"]).settings,
            classes=(CONFIG["classes"]["verbs"], CONFIG["classes"]["nouns"]),
            modules=CONFIG["modules"],
        message:
            "Fetch the start weights {params.weights[source]}"
        script:
            "../workflow/scripts/weights.py"
