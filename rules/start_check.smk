# The start check is a target of its own. Before a run that trains, before_start.smk calls it.

import time


rule start_check:
    input:
        # A file that is missing is a line of the screen, if no rule makes it.
        annotations=[
            path
            for path in ANNOTATIONS.values()
            if MINIKITCHEN or DOWNLOAD_ANNOTATIONS or os.path.exists(path)
        ],
        sheet=SHEET,
        config=shipped(CONFIG.train.config),
    output:
        screen="results/start_check.txt",
    log:
        START_CHECK_LOG,
    localrule: True
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=8000,
        runtime=10,
    params:
        check=lambda wildcards: vars(start_check()),
        # Videos and disk are no inputs, so each call must look again.
        now=time.time(),
    message:
        "Start check: what is ready for a training, and what is missing"
    script:
        "../workflow/scripts/start_check.py"
