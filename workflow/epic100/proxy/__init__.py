"""Proxies: small copies of the videos with frequent key frames, so that clips are fast to read."""

from epic100.proxy.copies import ENCODER, make_proxies
from epic100.proxy.encoder import ProxySettings, write_proxy

__all__ = ["ENCODER", "ProxySettings", "make_proxies", "write_proxy"]
