// Package userids decides which user and group ids of the machine a pod with a user namespace of its own (spec.hostUsers: false) gets: a block
// of 65536 ids that no other pod has.
//
//	space, err := userids.Default("/etc")           // or userids.Space{Own: userids.Range{First: 1 << 20, Count: 110 * userids.Block}}
//	first, ok := space.Free(func(first uint32) bool { return taken[first] })
//
// Who has which block, and keeping that across a restart, is the caller's business: here is nothing but arithmetic and the reading of
// subuid(5) and subgid(5), where a machine's users are given ids for namespaces of their own.
//
// All functions are pure or only read files, and may be called concurrently. The tests are tables; a fuzz test feeds the parser.
package userids
