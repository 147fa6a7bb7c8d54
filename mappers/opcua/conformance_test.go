package opcua

import (
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

func TestDriverConforms(t *testing.T) {
	startPeer(t)                       // the shared server's goroutines are older than the suite's
	time.Sleep(100 * time.Millisecond) // they need a moment to start
	devicetest.Run(t, func(t *testing.T) devicetest.Subject {
		p := startPeer(t)
		return devicetest.Subject{
			Driver: New(Options{}), Config: p.config(),
			Read:     []device.PointConfig{node("temperature", device.TypeFloat), node("running", device.TypeBoolean)},
			Write:    node("setpoint", device.TypeInt),
			Values:   [2]device.Value{device.Int(-70000), device.Int(12)},
			Kill:     p.kill,
			Hang:     func() { p.mode.Store(silent) },
			Flood:    func() { p.mode.Store(flooding) },
			Revive:   p.revive,
			Traffic:  func() (int, int) { return int(p.accepted.Load()), 0 },
			Recovery: 6 * time.Second,
			BadConfigs: []devicetest.Bad{
				{Name: "no url", Data: map[string]any{"timeout": 500}, Field: "url"},
				{Name: "http", Data: map[string]any{"url": "http://10.0.0.1:4840"}, Field: "url"},
				{Name: "no host", Data: map[string]any{"url": "opc.tcp://:4840"}, Field: "url"},
				{Name: "unknown policy", Data: map[string]any{"url": "opc.tcp://h", "securityPolicy": "Basic128Rsa15"}, Field: "securityPolicy"},
				{Name: "old policy by URI", Data: map[string]any{"url": "opc.tcp://h", "securityPolicy": "http://opcfoundation.org/UA/SecurityPolicy#Basic256"}, Field: "securityPolicy"},
				{Name: "unknown mode", Data: map[string]any{"url": "opc.tcp://h", "securityMode": "Encrypt"}, Field: "securityMode"},
				{Name: "signed None", Data: map[string]any{"url": "opc.tcp://h", "securityMode": "Sign", "securityPolicy": "None"}, Field: "securityMode"},
				{Name: "unsigned policy", Data: map[string]any{"url": "opc.tcp://h", "securityMode": "None", "securityPolicy": "Basic256Sha256"}, Field: "securityMode"},
				{Name: "certificate without key", Data: map[string]any{"url": "opc.tcp://h", "certificate": "/c.pem"}, Field: "privateKey"},
				{Name: "key without certificate", Data: map[string]any{"url": "opc.tcp://h", "userPrivateKey": "/c.pem"}, Field: "userCertificate"},
				{Name: "two users", Data: map[string]any{"url": "opc.tcp://h", "userName": "u", "userCertificate": "/c", "userPrivateKey": "/k"}, Field: "userCertificate"},
				{Name: "password alone", Data: map[string]any{"url": "opc.tcp://h", "password": "u"}, Field: "userName"},
				{Name: "timeout of 70", Data: map[string]any{"url": "opc.tcp://h", "timeout": 70}, Field: "timeout"},
				{Name: "negative deadband", Data: map[string]any{"url": "opc.tcp://h", "deadband": "-1"}, Field: "deadband"},
				{Name: "misspelt field", Data: map[string]any{"url": "opc.tcp://h", "securitypolice": "None"}, Field: "securitypolice"},
			},
			BadVisitors: []devicetest.Bad{
				{Name: "no node", Data: map[string]any{"browseName": "x"}, Field: "nodeID"},
				{Name: "no identifier", Data: map[string]any{"nodeID": "ns=2;Pump"}, Field: "nodeID"},
				{Name: "unknown kind", Data: map[string]any{"nodeID": "ns=2;x=Pump"}, Field: "nodeID"},
				{Name: "namespace too large", Data: map[string]any{"nodeID": "ns=65536;i=1"}, Field: "nodeID"},
				{Name: "number too large", Data: map[string]any{"nodeID": "i=4294967296"}, Field: "nodeID"},
				{Name: "no GUID", Data: map[string]any{"nodeID": "ns=2;g=1234"}, Field: "nodeID"},
				{Name: "no base64", Data: map[string]any{"nodeID": "ns=2;b=***"}, Field: "nodeID"},
				{Name: "another server", Data: map[string]any{"nodeID": "svr=1;i=5"}, Field: "nodeID"},
				{Name: "empty name", Data: map[string]any{"browsePath": "/2:A//B"}, Field: "browsePath"},
				{Name: "reference type", Data: map[string]any{"browsePath": "<HasChild>2:A"}, Field: "browsePath"},
				{Name: "index", Data: map[string]any{"nodeID": "i=5", "indexRange": "a"}, Field: "indexRange"},
				{Name: "range backwards", Data: map[string]any{"nodeID": "i=5", "indexRange": "5:1"}, Field: "indexRange"},
				{Name: "trigger", Data: map[string]any{"nodeID": "i=5", "trigger": "always"}, Field: "trigger"},
				{Name: "queue", Data: map[string]any{"nodeID": "i=5", "queueSize": 0}, Field: "queueSize"},
				{Name: "deadband of 101%", Data: map[string]any{"nodeID": "i=5", "deadband": "101%"}, Field: "deadband"},
				{Name: "method", Data: map[string]any{"nodeID": "i=5", "methodID": "x"}, Field: "methodID"},
			},
		}
	})
}
