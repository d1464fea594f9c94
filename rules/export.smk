# Pair scores become complete submissions with every narration_id of a split once: `.pt` for the
# official tools, `.zip` for the server. Each has its own split: see `export: split:`.


rule export:
    input:
        predictions=lambda wildcards: (
            f"{HOME.format(**wildcards)}/predictions/{exported_split(wildcards.kind)}.pt"
        ),
        segments=lambda wildcards: f"results/segments/{exported_split(wildcards.kind)}.txt",
        clean=lambda wildcards: f"results/clean/{exported_split(wildcards.kind)}.txt",
        model=MODEL,
    output:
        submission=f"{HOME}/submission.{{kind}}",
    log:
        f"{HOME}/logs/export/{{kind}}.log",
    wildcard_constraints:
        kind="pt|zip",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_TABLES,
    params:
        split=lambda wildcards: exported_split(wildcards.kind),
        export=CONFIG.export.stored(),
    message:
        "Submission of {params.split}"
    script:
        "../workflow/scripts/export.py"
