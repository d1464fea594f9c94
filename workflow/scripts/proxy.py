"""Rule proxy: a participant's videos -> small copies of them and their frame indexes."""

from epic100.base.log import rule_log
from epic100.proxy.copies import make_proxies
from epic100.settings import ProxySettings, Settings
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings)
    make_proxies(
        [Video(**row) for row in snakemake.params.rows],
        snakemake.params.root,
        snakemake.params.copies,
        scan_table=snakemake.input.scan,
        scan_index=snakemake.input.scan_index,
        table=snakemake.output.table,
        index=snakemake.output.index,
        settings=settings.videos.proxy or ProxySettings(),
        limits=settings.scan,
        threads=snakemake.threads,
    )
