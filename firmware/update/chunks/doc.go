// Package chunks lets a gateway fetch of a new bundle only what it lacks. A bundle is cut where its content says so (so that the same content is cut alike wherever it
// stands), and published as two plain files that any web server or object store can serve:
//
//	NAME.skidx   the index: size and hash of the whole, and of each chunk its length, its length as stored, and its hash
//	NAME.skdat   the chunks, compressed one by one, one behind another
//
// [Write] makes both (`skerry-bundle` calls it). On the gateway [ParseIndex] reads the first, [Seed] finds those chunks that the slot that runs has already, and
// [Fetcher] fetches the rest by Range requests, as many neighbours as possible with each, into the local bundle. What is there stays there: after a power cut a chunk
// is found again by its hash. Nothing is trusted for having been downloaded: each chunk is checked against the index, the whole against its hash, and RAUC
// checks the bundle's signature before it is used, which covers every byte.
//
// The decoder checks every count and length against limits before memory is taken, and is fuzzed. ADR 0019 has the measurements.
package chunks
