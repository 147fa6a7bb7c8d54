// Package storetest holds what every durable store of an agent must keep to, as a suite of tests, and a model of one in
// memory that keeps to it.
//
//	storetest.Run(t, func(t *testing.T) storetest.Subject { return storetest.NewModel(storetest.Limits{}) })
//
// The suite runs against the views of firmware/store (its contract_test.go), with a file system that forgets what was not
// synced, and against Model. So a simulator that stands on Model tests the link against the promises of the real store.
//
// Model tells writing from syncing: Begin stages a commit, Finish makes it durable and visible, and a Crash between them loses
// it or keeps it, whole in either case. Nothing here is safe for concurrent use.
package storetest
