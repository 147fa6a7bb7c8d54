// Package mqtt tries the event bus of the real agent with Debian's mosquitto clients: topics, restarts, and a hostile device.
//
//	go test -tags integration ./hil-tests/mqtt/
//
// It needs skerryd (make build) and mosquitto-clients (scripts/deps.sh mqtt); SKERRY_BIN names another folder of binaries.
package mqtt
