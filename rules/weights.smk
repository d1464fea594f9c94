"""The weights that training starts from: fetched once, where `snakemake` runs, tried with the
start check, and kept.

As with videos, an existing file is not a rule's output: Snakemake would remove it before a job.
"""

if TO_FETCH:

    rule weights:
        output:
            file="{weights}",
        log:
            "results/logs/{weights}.log",
        wildcard_constraints:
            weights="|".join(map(re.escape, TO_FETCH)),
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
            weights=lambda wildcards: vars(TO_FETCH[wildcards.weights][0]),
            check=lambda wildcards: vars(start_check(TO_FETCH[wildcards.weights][1])),
            run=lambda wildcards: HOME.format(run=TO_FETCH[wildcards.weights][1]),
        message:
            "Fetch the start weights {params.weights[source]}"
        script:
            "../workflow/scripts/weights.py"
