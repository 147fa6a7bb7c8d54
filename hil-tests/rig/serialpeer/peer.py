"""Serial devices on pyserial. Arguments: port, kind (scale or meter)."""
import binascii
import struct
import sys
import time

import serial

port = serial.Serial(sys.argv[1], 9600, timeout=0.05)
print("ready", flush=True)


def scale():
    """Lines: P asks for the weight, T? for the tare, T=xx.x sets it, K is refused."""
    tare, buffer, began = 0.0, b"", time.monotonic()
    while True:
        buffer += port.read(max(1, port.in_waiting))
        while b"\r\n" in buffer:
            line, buffer = buffer.split(b"\r\n", 1)
            if line == b"P":
                weight = 12.5 + (time.monotonic() - began) % 5
                reply = "ST,GS,%+8.2f kg" % (weight - tare)
            elif line == b"T?":
                reply = "T=%+06.1f" % tare
            elif line.startswith(b"T="):
                tare = float(line[2:])
                reply = "OK"
            else:
                reply = "ERR %s" % line.decode("ascii", "replace")
            port.write(reply.encode() + b"\r\n")


def meter():
    """Frames 68 LEN STATION FUNCTION DATA CRC: LEN counts station to data, the CRC-16/XMODEM covers all before it."""
    limit, buffer = 160, b""
    while True:
        buffer += port.read(max(1, port.in_waiting))
        while len(buffer) >= 2:
            if buffer[0] != 0x68:
                buffer = buffer[1:]
                continue
            total = buffer[1] + 4
            if len(buffer) < total:
                break
            frame, buffer = buffer[:total], buffer[total:]
            if binascii.crc_hqx(frame, 0) != 0:
                continue
            station, function = frame[2], frame[3]
            if function == 1:
                data = struct.pack(">HHHB", 2301, 0x5678, 0x1234, 0b1000)
            elif function == 2:
                data = struct.pack(">H", limit)
            elif function == 0x12:
                (limit,) = struct.unpack(">H", frame[4:6])
                data = b""
            else:
                continue
            if station != 7:
                continue
            reply = bytes([0x68, 2 + len(data), station, function]) + data
            port.write(b"\xff" + reply + struct.pack(">H", binascii.crc_hqx(reply, 0)))


{"scale": scale, "meter": meter}[sys.argv[2]]()
