//go:build integration

package opcua

import (
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// TestInteroperability runs what needs no fault against one server.
func TestInteroperability(t *testing.T) {
	p := start(t, opcuapeer.Options{Conformance: true})
	t.Run("trust", func(t *testing.T) { testTrust(t, p) })
	t.Run("matrix", func(t *testing.T) { testMatrix(t, p) })
	d := newDriver(t, p)
	s := devicetest.Open(t, d, config(p.URL(), "securityPolicy", "Aes128-Sha256-RsaOaep"))
	t.Run("reads", func(t *testing.T) { testReads(t, d, s) })
	t.Run("writes", func(t *testing.T) { testWrites(t, p, d, s) })
	t.Run("operation limits", func(t *testing.T) { testLimits(t, p, d, s) })
	t.Run("elements of arrays", func(t *testing.T) { testElements(t, p, d, s) })
	t.Run("quality", func(t *testing.T) { testQuality(t, p, d, s) })
	t.Run("methods", func(t *testing.T) { testMethods(t, d, s) })
	t.Run("deadbands", func(t *testing.T) { testDeadbands(t, p, d) })
	t.Run("browse", func(t *testing.T) { testBrowse(t, d, s) })
}
