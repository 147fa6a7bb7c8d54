//go:build integration

package attack

// flowAttempts try to keep the relay busy, or waiting.
func flowAttempts() []attempt { return nil }
