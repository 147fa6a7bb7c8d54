// Package e2e holds the end-to-end tests: the whole of Skerry from real parts, driven as a user would, through kubectl, the
// Kubernetes API, the command lines and the logs, and through nothing else.
//
//	SKERRY_BIN=$PWD/build/bin go test -tags integration ./hil-tests/e2e
//
// firstlight_test.go, outage_test.go and devices_test.go hold what must work; badinput_test.go and badedge_test.go what a new user does wrong and what a gateway
// goes through: each fault has exactly one clear message that names the thing and the remedy, there is neither a crash loop nor a
// flood of log lines, and everything goes on without a restart once the cause is gone.
//
// One system (package rig/stack) serves all tests; TestMain starts it and removes everything, also after a failure, a signal, or
// shortly before the test binary's own time limit. A test that disturbs a part puts it right again. Tests that need an agent of
// their own start a second one as another node (gateway in gateway_test.go). It needs root and `make rig`.
package e2e
