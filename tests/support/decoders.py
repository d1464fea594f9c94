"""The decoders that this platform has: decord has wheels for x86-64 Linux alone."""

import platform
import sys

import pytest

needs_decord = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="no decord for this platform"
)
DECODERS = ("pyav", pytest.param("decord", marks=needs_decord))
