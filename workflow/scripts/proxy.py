"""Rule proxy: a participant's videos -> small copies with key frames close together."""

from epic100.base.log import rule_log
from epic100.settings.data import ProxySettings, ScanLimits
from epic100.video.copies import make_proxies
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    params = snakemake.params
    make_proxies(
        [Video(**row) for row in params.rows],
        params.root,
        params.copies,
        scan_table=snakemake.input.scan_table,
        scan_index=snakemake.input.scan_index,
        table=snakemake.output.table,
        index=snakemake.output.index,
        settings=ProxySettings(**params.proxy),
        limits=ScanLimits(**params.limits),
        threads=snakemake.threads,
    )
