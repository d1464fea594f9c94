"""Snakemake's own report, as one HTML file that needs no network, as a target like any other."""


rule report:
    input:
        results=[
            f"{HOME}/summary.txt",
            f"{HOME}/submission.zip",
            *rules.figures_data.output,
            *rules.figures_damage.output,
            # A model that was made elsewhere has no training to show.
            *([] if CONFIG["predict"]["model"] or MODELS else rules.figures_training.output),
            *rules.figures_results.output,
            *rules.figures_performance.output,
        ],
        stylesheet=workflow.source_path("../workflow/report/report.css"),
    output:
        html=f"{HOME}/report.html",
    log:
        f"{HOME}/logs/report.log",
    # It reads the Snakemake metadata of this folder, so it must run where the workflow runs.
    localrule: True
    conda:
        "../envs/epic100.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        snakefile=workflow.main_snakefile,
        config=config,
    message:
        "Report of {input.results}"
    script:
        "../workflow/scripts/report.py"
