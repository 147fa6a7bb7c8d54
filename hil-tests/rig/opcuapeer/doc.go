// Package opcuapeer runs an OPC UA server that we did not write: node-opcua, with every security policy and kind of user token.
//
// # Usage
//
//	p, err := opcuapeer.Start(ctx, opcuapeer.Options{Folder: dir})   // make opcua-peers has fetched node-opcua
//	defer p.Stop()
//	err = p.Set(ctx, "Int32", 7)                                     // past the code under test
//	held, err := p.Get(ctx, "Int32")
//
// The server listens on loopback; it takes some seconds to start. Its users are operator with the password s3cret-ü, and whoever
// shows a certificate that TrustUser has filed. Operation limits are small (300 nodes per read, 50 per write, 400 monitored items
// per call, 20 per browse), so that batches have to be split.
//
// Its namespace urn:skerry:test holds, below Objects/Test, nodes whose ids are strings equal to their names:
//
//	Types       one variable of each built-in type (Boolean … LocalizedText), an array of each (Int32Array …, no ExpandedNodeIdArray),
//	            DoubleMatrix (2 × 3), Ten (Int32 0 … 9), Any (BaseDataType), Number, ReadOnly, Forbidden
//	Structures  Point, Points, Pump (nested, with arrays and an enumeration), ReadingFull and ReadingBare (optional fields),
//	            SettingNumber and SettingText (a union), State (an enumeration)
//	Live        Counter and Sine change every 50 ms; Ramp is an AnalogItem with an EURange of 0 to 100
//	Many        N0 … N2000, Double, each holding its number
//	Exact       E0 and E1, Double: a client that samples at the interval 0 gets every change
//	Machine     methods Multiply(a, b), Describe(count, name), Fail() and Reset()
//
// urn:skerry:types (types.xml) has the structures' types. With Options.Conformance the address space that node-opcua ships for
// conformance tests is there too, as urn://node-opcua-simulator.
//
// # Concurrency
//
// A Peer's methods may be called concurrently, but only one of Start, Restart, Kill and Stop at a time.
//
// # Testing
//
// hil-tests/opcua uses it, and fails if the server does not answer.
package opcuapeer
