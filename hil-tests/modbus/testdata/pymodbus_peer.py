"""A Modbus device of pymodbus on any transport. Arguments: tcp|rtu|ascii|rtuovertcp|asciiovertcp, and a port number or a device file.

Input register i holds 3 i + 7, discrete input i is set if i can be divided by 3, holding registers and coils can be written; addresses
from 200 on do not exist. Unit 1 alone exists; others are not answered."""
import asyncio
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.device import ModbusDeviceIdentification
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer
from pymodbus.transaction import ModbusAsciiFramer, ModbusRtuFramer, ModbusSocketFramer

SIZE = 200
FRAMERS = {"tcp": ModbusSocketFramer, "rtu": ModbusRtuFramer, "ascii": ModbusAsciiFramer, "rtuovertcp": ModbusRtuFramer, "asciiovertcp": ModbusAsciiFramer}


async def main():
    mode, where = sys.argv[1:]
    unit = ModbusSlaveContext(
        di=ModbusSequentialDataBlock(0, [i % 3 == 0 for i in range(SIZE)]), co=ModbusSequentialDataBlock(0, [False] * SIZE),
        hr=ModbusSequentialDataBlock(0, [0] * SIZE), ir=ModbusSequentialDataBlock(0, [3 * i + 7 for i in range(SIZE)]), zero_mode=True)
    context = ModbusServerContext(slaves={1: unit}, single=False)
    identity = ModbusDeviceIdentification(info_name={"VendorName": "pymodbus", "ProductCode": "PM", "MajorMinorRevision": "3.0.0"})
    if mode in ("rtu", "ascii"):
        server = ModbusSerialServer(context, framer=FRAMERS[mode], identity=identity, port=where, baudrate=115200, timeout=1, ignore_missing_slaves=True)
        await server.start()
    else:
        server = ModbusTcpServer(context, framer=FRAMERS[mode], identity=identity, address=("127.0.0.1", int(where)), allow_reuse_address=True, ignore_missing_slaves=True)
    await server.serve_forever()


asyncio.run(main())
