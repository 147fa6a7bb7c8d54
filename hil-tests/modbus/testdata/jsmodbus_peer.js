// A Modbus device of jsmodbus. Arguments: folder of node_modules, tcp|rtu, port. With rtu, the bytes of a serial line come over TCP.
// Input register i holds 3 i + 7, discrete input i is set if i can be divided by 3, holding registers and coils can be written.
'use strict'
const path = require('path')
const net = require('net')
const [folder, mode, port] = process.argv.slice(2)
const modbus = require(path.join(folder, 'jsmodbus'))

const options = { coils: Buffer.alloc(64), discrete: Buffer.alloc(64), holding: Buffer.alloc(400), input: Buffer.alloc(400) }
for (let i = 0; i < 200; i++) {
  options.input.writeUInt16BE(3 * i + 7, 2 * i)
  if (i % 3 === 0) options.discrete[i >> 3] |= 1 << (i % 8)
}
const server = new net.Server()
if (mode === 'tcp') {
  new modbus.server.TCP(server, options)
} else {
  server.on('connection', socket => new modbus.server.RTU(socket, options))
}
server.listen(Number(port), '127.0.0.1')
