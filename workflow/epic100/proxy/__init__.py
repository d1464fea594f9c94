"""Small copies of whole videos, fast to read clips from; and clips, a file for each segment."""

from epic100.proxy.copies import make_proxies
from epic100.proxy.encoder import write_proxy

__all__ = ["make_proxies", "write_proxy"]
