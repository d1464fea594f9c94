"""Proxies: small copies of the videos with key frames close together, cheap to read clips from."""

from epic100.proxy.copies import ENCODER, make_proxies
from epic100.proxy.encoder import ProxySettings, write_proxy

__all__ = ["ENCODER", "ProxySettings", "make_proxies", "write_proxy"]
