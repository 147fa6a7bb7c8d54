"""A Modbus TCP device of pymodbus whose registers change by themselves. Arguments: host, port, unit ids."""
import asyncio
import math
import struct
import sys
import types

# pymodbus 3.0.0 imports its serial transports even for TCP, and Debian only recommends the packages they need.
for name in ("serial", "serial_asyncio"):
    try:
        __import__(name)
    except ImportError:
        stub = types.ModuleType(name)
        stub.create_serial_connection = None
        sys.modules[name] = stub

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext  # noqa: E402
from pymodbus.server.async_io import ModbusTcpServer  # noqa: E402

SIZE = 200
CONTROL = 255  # a unit that tells how many requests the others got, in input registers 0 and 1


class Counting(ModbusServerContext):
    requests = 0

    def __getitem__(self, unit):
        context = super().__getitem__(unit)
        if unit != CONTROL:
            self.requests += 1
        return context


def words(fmt, value):
    return list(struct.unpack(">%dH" % (struct.calcsize(fmt) // 2), struct.pack(fmt, value)))


def unit():
    block = lambda: ModbusSequentialDataBlock(0, [0] * SIZE)  # noqa: E731
    return ModbusSlaveContext(di=block(), co=block(), hr=block(), ir=block(), zero_mode=True)


async def live(context, units):
    n = 0
    while True:
        temperature = words(">f", 21.0 + round(3 * math.sin(n / 20), 2))
        count = n % 30000
        for i in units:
            store = context.slaves_()[i].store
            store["i"].setValues(0, [count] + words(">h", -1 - n % 100) + temperature + temperature[::-1] + words(">i", -100000 - count))
            store["d"].setValues(0, [n // 5 % 2 == 1, True])
            store["h"].setValues(150, [count])
            store["c"].setValues(150, [n // 5 % 2 == 1])
        context.slaves_()[CONTROL].store["i"].setValues(0, words(">I", context.requests % 2**32))
        n += 1
        await tick(context)


async def tick(context):
    """Waits 200 ms, and keeps the count of requests fresh meanwhile."""
    for _ in range(10):
        await asyncio.sleep(0.02)
        context.slaves_()[CONTROL].store["i"].setValues(0, words(">I", context.requests % 2**32))


async def main():
    host, port, units = sys.argv[1], int(sys.argv[2]), [int(u) for u in sys.argv[3:]]
    slaves = {i: unit() for i in units + [CONTROL]}
    context = Counting(slaves=slaves, single=False)
    context.slaves_ = lambda: slaves
    asyncio.ensure_future(live(context, units))
    server = ModbusTcpServer(context, address=(host, port), allow_reuse_address=True, ignore_missing_slaves=True)
    await server.serve_forever()


asyncio.run(main())
