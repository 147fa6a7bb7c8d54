// Package browse lists what an OPC UA server offers, as a DeviceModel wants it: names, model types, whether a value may be written,
// and the configData that reads it.
//
// # Usage
//
//	l := browse.Lister{Ask: session, Namespaces: namespaces, MaxRead: limits.MaxNodesPerRead}
//	entries, err := l.Children(ctx, nil, 1000)            // of the Objects folder
//
// Node ids are written with the namespace's URI (nsu=…), which stays the same when a server numbers its namespaces anew. A method's
// configData names the object that has it.
//
// # Limits
//
// The server is asked for no more than the caller wants; continuation points are followed and given back. Names are cut at 256
// bytes, and nodes whose id is longer than 4 KiB, or lies on another server, are left out.
//
// # Concurrency
//
// A Lister has no state; use one for each call or share it.
//
// # Testing
//
// A hand-written server with continuation points, small operation limits, loops and rubbish. hil-tests/opcua browses node-opcua.
package browse
