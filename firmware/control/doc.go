// Package control is the agent's control service for the people who stand beside the gateway: `skerryctl device …` asks it to read,
// write, watch, call, browse and scan devices, to show what polling costs, and to decide whom an encrypted session trusts.
//
// # Usage
//
// Fill Options and call New(o).Run(ctx): it serves HTTP/1.1 on a Unix socket (mode 0600, and every peer's user id is checked: root or the
// agent's own) until ctx ends. Bodies and answers are JSON; watch, browse and scan answer with one JSON document a line as things come.
// Client speaks it.
//
//	GET  /v1/devices                          the devices with their last values
//	POST /v1/devices/NAMESPACE/NAME/read      {"properties": [...]}; asks the device now
//	POST /v1/devices/NAMESPACE/NAME/write     {"property": "...", "value": "..."}
//	POST /v1/devices/NAMESPACE/NAME/call      {"method": "...", "arguments": {...}}
//	POST /v1/devices/NAMESPACE/NAME/browse    {"node": "...", "depth": 1, "limit": 1000}; lines
//	GET  /v1/devices/NAMESPACE/NAME/history   what is kept and what was dropped
//	POST /v1/devices/NAMESPACE/NAME/history   {"property": "...", "from": ..., "to": ..., "limit": 1000}; lines
//	GET  /v1/devices/NAMESPACE/NAME/plan      what polling costs, with all devices of the same line
//	GET  /v1/watch?device=NAMESPACE/NAME&property=...   lines
//	POST /v1/scan                             {"protocol": "modbus", "config": {...}, "units": [1, 247], ...}; lines
//	GET  /v1/certificates                     of drivers that keep a trust list
//	POST /v1/certificates/FINGERPRINT/accept, …/reject
//
// An error is a JSON document with a text and a code, see Error.
//
// # Limits
//
// Bodies, requests and streams at a time, how long each may take, and what waits for a slow reader are bounded (limits.go). What
// devices report is handed to a bounded feed per stream, so that a client that does not read costs the agent nothing but that: it
// is told how many changes it missed, and is cut off if it takes nothing for a while.
//
// # Concurrency
//
// A Server lives for one call of Run. A Client is safe for concurrent use.
//
// # Testing
//
// Tests use a fake host and real sockets in temporary folders; hil-tests/control drives a whole skerryd.
package control
