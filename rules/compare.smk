# This shows all finished runs side by side. Runs of other configs are shown as they are, and are no
# inputs: no rule of this config could make one again.

from epic100.base.disk import digest
from epic100.settings.config import runs_to_compare

OWN_RUNS, OTHER_RUNS = runs_to_compare([*SWEEP] or [CONFIG.run])


rule compare:
    input:
        **OFFICIAL_LISTS,
        segments="results/segments/val.txt",
        metrics=[f"{home_of(run)}/metrics.json" for run in OWN_RUNS],
    output:
        table="results/compare.tsv",
        page="results/compare.html",
    log:
        "results/logs/compare.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_TABLES,
    params:
        lists=list(OFFICIAL_LISTS),
        contents=lambda wildcards: contents_of(*OFFICIAL_LISTS),
        classes=CONFIG.classes.model_dump(),
        others=[home_of(run) for run in OTHER_RUNS],
        # With this parameter, the page is made again when one of the other runs changes.
        digests=[digest(f"{home_of(run)}/metrics.json", "sha256").value for run in OTHER_RUNS],
    message:
        "All runs side by side"
    script:
        "../workflow/scripts/compare.py"
