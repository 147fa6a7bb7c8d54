package control

import "time"

// Limits of the service. The peers are root, so these guard against mistakes and broken tools, and keep the agent's memory
// bounded.
const (
	maxConns    = 32 // connections at a time
	maxRequests = 12 // requests at a time that are answered at once …
	maxStreams  = 8  // … and that stream
	maxBody     = 64 << 10
	maxFeed     = 2048 // lines that wait for a slow reader

	readTime   = 30 * time.Second // the device is read, written, planned
	callTime   = 60 * time.Second // a method, which may take its time
	browseTime = 5 * time.Minute
	watchTime  = time.Hour
	lookEvery  = time.Second // whether what is watched is still there
	scanTime   = 2 * time.Hour
	lineTime   = 10 * time.Second // a client takes a line within it, or is cut off

	defaultEntries, maxEntries = 1000, 20000
	maxDepth                   = 16

	defaultKept, maxKept = 1000, 50000 // values of the history
)
