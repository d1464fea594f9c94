"""Notes each packet of a stream while it is read: what frame indexes are made of."""

import zlib
from array import array
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer

from epic100.video.packet_table import PacketTable, StreamFacts
from epic100.video.parameter_sets import ParameterSets
from epic100.video.watched_file import WatchedFile

_FIELDS = 5  # offset, size, pts, dts, shown
_NO_PLACE = -1


class PacketRecorder:
    """Takes in the packets of one stream in order of decoding; those without a time are no picture.

    It reads each packet once more at its offset, past the demuxer, since only that proves that a
    reader may do so. The file's own bytes are in the system's cache by then.
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
        )
        self._rows = array("q")
        self._crcs, self._key_sets = array("L"), array("q")  # of the packets that are key frames
        self._key_packets = array("q")
        self._direct = True
        self._file = file

    def add(self, packet: "av.Packet") -> None:
        """Note a packet that has bytes. Raises DiskError where the file cannot be read."""
        data = memoryview(packet)
        if packet.has_sidedata("new_extradata"):
            self._sets.new_entry(bytes(packet.get_sidedata("new_extradata")))
        self._sets.see(data)
        if packet.pts is None:
            self._direct = False
            return
        offset = _NO_PLACE if packet.pos is None else packet.pos
        if self._direct:
            self._direct = offset >= 0 and self._file.read_at(offset, len(data)) == data
        # Nothing comes before the first packet, so that decoding begins there whatever it is.
        if packet.is_keyframe or not self._rows:
            self._key_packets.append(len(self._rows) // _FIELDS)
            self._crcs.append(zlib.crc32(data))
            self._key_sets.append(self._sets.number())
        dts = packet.pts if packet.dts is None else packet.dts
        shown = not packet.is_discard
        self._rows.extend((offset, len(data), packet.pts, dts, shown))

    def table(self, keys: Sequence[bool] | None = None) -> PacketTable:
        """The table of all packets so far; `keys`: which of them are key frames after all."""
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
    file: WatchedFile,
    container: InputContainer,
    stream: "av.VideoStream",
    keys: set[tuple[int, int]] | None = None,
) -> PacketTable:
    """Read all packets of an open file and decode none.

    `keys`: (pts, dts) of the key frames that are some, where that is known. Raises FFmpegError,
    DiskError.
    """
    held: list[bool] = []
    recorder = PacketRecorder(file, stream)
    for packet in container.demux(stream):
        if packet.size:
            recorder.add(packet)
            if packet.pts is not None:
                dts = packet.pts if packet.dts is None else packet.dts
                held.append(keys is None or (packet.pts, dts) in keys)
    return recorder.table(held)
