"""Records each packet of a stream while it is read; frame indexes are made from these records."""

import zlib
from array import array
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer

from epic100.video.packet_table import COLOURS, PacketTable, StreamFacts
from epic100.video.parameter_sets import ParameterSets
from epic100.video.watched_file import WatchedFile

_FIELDS = 5  # offset, size, pts, dts, shown
_NO_PLACE = -1


class PacketRecorder:
    """Records the packets of one stream in decoding order. Packets without a time are not pictures.

    Each packet is read a second time at its offset, without the demuxer. Only that proves that a
    reader may do the same. The bytes are in the system's cache by then.
    """

    def __init__(self, file: WatchedFile, stream: "av.VideoStream"):
        context = stream.codec_context
        self._sets = ParameterSets(context.codec.canonical_name, context.extradata)
        self._stream = StreamFacts(
            context.name,
            context.width,
            context.height,
            context.pix_fmt or "",
            Fraction(stream.time_base or 0),
            self._sets.length_size,
            tuple(int(getattr(context, name)) for name in COLOURS),
        )
        self._rows = array("q")
        self._crcs, self._key_sets = array("L"), array("q")  # of the key frames
        self._key_packets = array("q")
        self._direct = True
        self._file = file

    def add(self, packet: "av.Packet") -> None:
        """Record a packet that has bytes. Raises DiskError if the file cannot be read."""
        data = memoryview(packet)
        if packet.has_sidedata("new_extradata"):
            self._sets.new_entry(bytes(packet.get_sidedata("new_extradata")))
            self._direct = False  # packets read by their places lack it
        self._sets.see(data)
        if packet.pts is None:
            self._direct = False
            return
        offset = _NO_PLACE if packet.pos is None else packet.pos
        if self._direct:
            # As bytes, since a memoryview is compared byte by byte.
            self._direct = offset >= 0 and self._file.read_at(offset, len(data)) == bytes(data)
        # Nothing comes before the first packet, so decoding can begin there whatever it is.
        if packet.is_keyframe or not self._rows:
            self._key_packets.append(len(self._rows) // _FIELDS)
            self._crcs.append(zlib.crc32(data))
            self._key_sets.append(self._sets.number())
        dts = packet.pts if packet.dts is None else packet.dts
        shown = not packet.is_discard
        self._rows.extend((offset, len(data), packet.pts, dts, shown))

    def table(self, keys: Sequence[bool] | None = None) -> PacketTable:
        """The table of all packets so far.

        Args:
            keys: Per packet, whether it really is a key frame; None: trust the container.
        """
        rows = np.frombuffer(self._rows, np.int64).reshape(-1, _FIELDS)
        claimed = np.array(self._key_packets, dtype=np.int64)
        held = np.ones(len(claimed), bool) if keys is None else np.asarray(keys, bool)[claimed]
        held[:1] = True
        return PacketTable.pack(
            self._stream,
            rows,
            keys=claimed[held],
            crcs=np.array(self._crcs, dtype=np.uint32)[held],
            key_sets=np.array(self._key_sets, dtype=np.int64)[held],
            sets=self._sets.collections,
            file_size=self._file.size,
            direct=self._direct,
        )


def record_packets(
    file: WatchedFile, container: InputContainer, stream: "av.VideoStream"
) -> PacketTable:
    """Read all packets of an open file without decoding.

    Args:
        file: The file, open for direct reads.
        container: The same file, open in FFmpeg.
        stream: Its picture stream.

    Raises:
        FFmpegError: The container cannot be read.
        DiskError: The disk fails.
    """
    recorder = PacketRecorder(file, stream)
    for packet in container.demux(stream):
        if packet.size:
            recorder.add(packet)
    return recorder.table()
