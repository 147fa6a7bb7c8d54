// Package wire holds the messages between agent and relay and their codec: the one contract both sides share. It is written
// so that somebody could make a second implementation of either side from this page, testdata/frames.txt and
// canon/testdata/canon.txt.
//
// # Transport
//
// A WebSocket (RFC 6455) over TLS 1.3 with client certificates, GET /v1/link, subprotocol "skerry.v1", without compression.
// One binary message is one frame. The agent pings in frames of its own; WebSocket pings are not used.
//
// # Encoding of a frame
//
// Two MessagePack values, one after the other: the type, a positive fixint (so one byte, 0x01–0x7f), and the body, a map with
// string keys. A receiver skips fields that it does not know, in any order; a field that is missing has its zero value (0, "",
// false, nothing). Integers may come in any MessagePack integer form that holds the value. Types below are named so: u = unsigned
// integer, i = signed integer, s = str (UTF-8), b = bin, t = bool, [] = array, {} = map.
//
//	 1 hello       agent   min u, max u protocol versions · node s · agent s software · hb u ms heartbeat wished for · mf u bytes, largest
//	                       frame it takes · rules u · sum b outline of its digest · rev []u revisions
//	                       · kn u how many kinds it knows · sw u bytes of all streams' data that may be on their way to it
//	 2 welcome     relay   proto u chosen version · relay s name · ep u session epoch · hb u ms heartbeat · mf u bytes · t i ms since 1970
//	                       · kn u how many kinds it knows · sw u bytes of all streams' data that may be on their way to it
//	 3 compare     relay   b u bit i asks for the entries of bucket i
//	 4 entries     agent   e []{k s, v version} · m t another entries frame follows
//	 5 commit      relay   id u · p u part, from 0 · m t another part follows · rules u · put []object · del []s keys · rev []u revisions
//	 6 ack         agent   id u: all commits up to this one are durable
//	 7 synced      relay   (no fields)
//	 8 report      agent   s u · i []{k s, b b}
//	 9 report-ack  relay   s u
//	10 outbox      agent   i []{e u epoch, s u sequence, k s kind, b b}
//	11 outbox-ack  relay   e u, s u
//	12 ping        agent   (no fields)
//	13 pong        relay   (no fields)
//	14 close       both    c u code · r s reason · ra u ms to wait before dialling again · e []s relays to dial first, host:port
//	15 offer       agent   s u · h b 16 bytes, sum over all documents, or else i []{k s, h b 16 bytes}
//	16 want        relay   s u offer that this answers, 0 for none · l t offer the list · k []s keys
//	32 stream-open   both  i u stream · s s service · w u bytes that may be sent to the opener
//	33 stream-accept both  i u · w u bytes that may be sent to the acceptor
//	34 stream-data   both  i u · b b
//	35 stream-window both  i u, 0: of all streams · n u bytes given back
//	36 stream-end    both  i u
//	37 stream-reset  both  i u · c u code · r s reason
//
// object is {k s key, v version, r u resourceVersion, a t absent, b b body}, version is {u s UID, h b 16 bytes}. Revisions are one
// resourceVersion for each of nodes, configmaps, secrets, devicemodels, pods, devices, services, runtimeclasses,
// persistentvolumeclaims, persistentvolumes, in this order, zeros at the end left out; in hello the highest that the agent was ever
// told, in a commit those that a cache must have seen to know of what the commit changes. A receiver ignores types from 64 on that
// it does not know, and ends the session on unknown ones below.
//
// Keys are described at Key; bodies are canonical MessagePack (package canon). An object's hash is the first 16 bytes of the
// SHA-256 of its body. An absent object (a reference that does not exist) has no body, an empty UID and the hash of no bytes.
//
// # A session
//
//  1. The agent sends hello, with the digest of all (key, version) pairs that it holds durably. A commit of an earlier session that
//     is still being stored must have ended by then.
//  2. The relay checks that the certificate speaks for the node, and answers with welcome, or with close.
//  3. When the relay's caches have seen every revision that the agent has, it compares digests. Buckets that differ are asked for
//     with compare; the agent answers with all entries of these buckets, in one or more entries frames (one, empty, if there are none).
//     If what the relay now takes the agent to hold does not give the total that hello told, it asks for the other buckets, too.
//  4. The relay sends commits, numbered from 1, each with what the agent lacks. A commit holds every object that its pods refer to and
//     that the agent does not hold at the newest version; the agent applies all parts of a commit atomically, in the order of the
//     numbers, and acknowledges when they are durable. The relay keeps at most a few commits unacknowledged, so a slow agent skips
//     versions instead of queueing them.
//  5. synced says, once, that everything known when the session began is acknowledged. Later changes are commits like the others.
//  6. From welcome on the agent reports: one report frame unacknowledged at a time, newest body of each key. What it reported in an
//     earlier session is only offered, by one sum over all documents first. If the relay does not know it has these very
//     documents, it asks for the list of keys and hashes, and then for the bodies that it lacks. It may ask for bodies at
//     any time, because somebody else may change what was reported. Outbox frames are one unacknowledged at a time, too; their
//     items come at least once, in order.
//  7. The agent pings when either direction was silent for a heartbeat; the relay answers at once. Either side ends a session in which it
//     heard nothing for two heartbeats. Of a message that takes longer, each 16 KiB count as having heard something (Pace). While one
//     comes slowly from the agent, whose pings wait behind it, the relay sends pongs unasked, after its welcome.
//
// # Streams
//
// Streams carry bytes that belong to no state, between somebody at one side and a service of the other. A side whose hello or welcome has
// no sw has no streams, and is sent none of their frames; a welcome has it only if the hello had. The agent's streams have odd numbers
// and the relay's even ones, from 1 or 2 on, each greater than the one before of the same side. Open is answered by accept, or by
// reset with the reason, and data flows after accept. A data frame of n bytes (1 to 16,128) takes n + 512 of the window that its
// receiver announced for the stream (16 KiB to 16 MiB), and of the one for all streams. The first is given back when the bytes are
// read, the second when they have arrived; neither grows beyond what was announced. End says that its sender sends no more data. Reset
// ends both directions; with code 1 what came before it is still to be read. Frames of a stream that has ended are ignored, data
// among them counts in the window of all. Codes: 1 closed, 2 cancelled, 3 failed, 4 no such service, 5 too many, 6 shutting down.
//
// A frame of a stream goes only when no other frame waits: state is never behind a stream, but for what is on its way already.
//
// # Digest
//
// There are 64 buckets. A key belongs to bucket (first byte of its SHA-256) mod 64. A bucket's sum is the exclusive or of its
// entries' hashes: the first 16 bytes of SHA-256(length of key as 4 bytes big endian, key, length of UID likewise, UID, hash).
// Its total is the first 16 bytes of the SHA-256 of, for each bucket that is not zero in ascending order, the bucket's number as one
// byte and its 16 bytes. hello carries the outline: the total, 8 bytes big endian in which bit i says that bucket i is not zero,
// then the first 4 bytes of each such bucket in ascending order; nothing at all if no bucket is set.
//
// The sum of an offer is the exclusive or of its documents' hashes as entries, with an empty UID.
//
// # Versions
//
// hello names the lowest and highest protocol version that the agent speaks, the relay chooses the highest that both do. Within a
// version fields and optional types may be added; nothing changes its meaning. A frame that lacks what its type needs is
// malformed, and malformed frames end the session with close code 3.
//
// Kinds are counted in the order of revisions; a peer that does not say how many it knows knows the first six. No frame names a key
// of a kind that its receiver does not know. For an agent that knows fewer, the relay compares and sends only these; to a relay that
// knows fewer, the agent leaves the others out of its entries, and keeps what it holds of them.
//
// # Limits
//
// Decode checks a frame before it takes memory for it: at most MaxFrame bytes, every declared length really there, at most MaxItems
// elements in an array, nesting of 16, 65,536 values. Each side announces the largest frame it takes, at least MinFrame.
//
// # Use and concurrency
//
// Encode and Append write a frame, Decode reads one; both are pure and safe for concurrent use, and a decoded frame does not alias
// its input. Frames, Digest and Object are plain data without locks.
//
// # Tests
//
// Golden vectors of every frame type in testdata/frames.txt, malformed frames, FuzzDecode. relay/session drives both ends of the
// protocol against each other.
package wire
