# This shows all finished runs side by side. Runs of other configs are shown as they are, since only
# the config of a run may make it again.

from epic100.base.disk import digest
from epic100.settings import runs_to_compare

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
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        lists=list(OFFICIAL_LISTS),
        settings=CONFIG.only("classes"),
        others=[home_of(run) for run in OTHER_RUNS],
        # The page is made again when one of them changes.
        digests=[digest(f"{home_of(run)}/metrics.json", "sha256").value for run in OTHER_RUNS],
    message:
        "All runs side by side"
    script:
        "../workflow/scripts/compare.py"
