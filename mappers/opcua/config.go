package opcua

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

const (
	configPath  = "spec.protocol.configData"
	defaultPort = "4840" // registered for opc.tcp
)

// config is a device's protocol configData. It is immutable and comparable: devices with equal ones share an endpoint.
type config struct {
	url     string // as the server is told
	address string // host:port

	policy        string // URI; empty: the best that the server offers for mode
	mode          ua.MessageSecurityMode
	certificate   string // files; empty: the driver's own
	privateKey    string
	remote        string // file of the server's certificate; empty: the trust list
	user          string
	password      string
	userCert      string
	userKey       string
	plainPassword bool

	timeout        time.Duration
	sessionTimeout time.Duration
	watchdog       time.Duration
	maxNodes       int
	defaults       sampling
	poll           bool
}

var (
	policyWords = map[string]string{
		"none": ua.SecurityPolicyURINone, "basic256sha256": ua.SecurityPolicyURIBasic256Sha256,
		"aes128sha256rsaoaep": ua.SecurityPolicyURIAes128Sha256RsaOaep, "aes256sha256rsapss": ua.SecurityPolicyURIAes256Sha256RsaPss,
		"auto": policyAuto,
	}
	policyAllowed = []string{"None", "Basic256Sha256", "Aes128-Sha256-RsaOaep", "Aes256-Sha256-RsaPss", "auto"}
	modeWords     = map[string]ua.MessageSecurityMode{"none": ua.MessageSecurityModeNone, "sign": ua.MessageSecurityModeSign, "signandencrypt": ua.MessageSecurityModeSignAndEncrypt}
	modeAllowed   = []string{"None", "Sign", "SignAndEncrypt"}
	triggerWords  = map[string]ua.DataChangeTrigger{"status": ua.DataChangeTriggerStatus, "statusvalue": ua.DataChangeTriggerStatusValue, "statusvaluetimestamp": ua.DataChangeTriggerStatusValueTimestamp}
	triggerText   = []string{"Status", "StatusValue", "StatusValueTimestamp"}
)

const policyAuto = "auto"

// Spellings of the fields; the first of each is ours.
var (
	urlNames  = []string{"url", "endpoint", "endpointURL"}
	userNames = []string{"userName", "user"}
)

// describeDevice is the reference of config.
func describeDevice() []device.FieldDoc {
	return append([]device.FieldDoc{
		{Name: "url", Aliases: urlNames[1:], Meaning: "where the server is; its discovered endpoints are used for their security alone, so it may be behind NAT", Default: "required", Allowed: "opc.tcp://host:port/path; port 4840 if it is left out"},
		{Name: "securityPolicy", Meaning: "how messages are secured; auto is the best that the server offers for securityMode, never None", Default: "None; auto if securityMode is Sign or SignAndEncrypt", Allowed: strings.Join(policyAllowed, ", ")},
		{Name: "securityMode", Meaning: "whether messages are signed, or signed and encrypted", Default: "None; SignAndEncrypt if securityPolicy is given", Allowed: strings.Join(modeAllowed, ", ")},
		{Name: "certificate", Meaning: "file of the client's certificate (PEM or DER), instead of the agent's own", Default: "the agent's own", Allowed: "a path on the gateway; with privateKey"},
		{Name: "privateKey", Meaning: "file of the key of certificate (PEM or DER)", Default: "the agent's own", Allowed: "a path on the gateway; with certificate"},
		{Name: "remoteCertificate", Meaning: "file of the server's certificate: it alone is accepted, and the trust list is not asked", Default: "the trust list", Allowed: "a path on the gateway"},
		{Name: "userName", Aliases: userNames[1:], Meaning: "user of the server, with password; may be combined with certificate", Default: "anonymous", Allowed: "text"},
		{Name: "password", Meaning: "password of userName", Default: "empty", Allowed: "text"},
		{Name: "plainPassword", Meaning: "allow that the password is sent readable for anybody on the network, for servers that cannot do better", Default: "false: refused", Allowed: "true, false"},
		{Name: "userCertificate", Meaning: "file of a user's X.509 certificate (PEM or DER), instead of userName", Default: "none", Allowed: "a path on the gateway; with userPrivateKey"},
		{Name: "userPrivateKey", Meaning: "file of the key of userCertificate", Default: "none", Allowed: "a path on the gateway; with userCertificate"},
		{Name: "timeout", Meaning: "how long connecting or one request may take", Default: "5000", Allowed: "100 to 60000 (milliseconds), 1 to 60 (seconds)"},
		{Name: "sessionTimeout", Meaning: "how long the server keeps the session and what it has queued while the connection is down, in seconds", Default: "60", Allowed: "10 to 3600"},
		{Name: "watchdog", Meaning: "after how long a silence the server is asked whether it is alive, in milliseconds", Default: "5000", Allowed: "500 to 600000"},
		{Name: "maxNodes", Meaning: "most nodes in one request, for servers that do not say what they can take", Default: "1000, or the server's own limit if that is less", Allowed: "1 to 10000"},
		{Name: "subscribe", Meaning: "whether values are subscribed; false: they are only read, cycle by cycle", Default: "true", Allowed: "true, false"},
	}, describeSampling("of all properties of the device")...)
}

// describeSampling is the reference of sampling, which a device's configData has for all its properties and a visitor's for one.
func describeSampling(whose string) []device.FieldDoc {
	return []device.FieldDoc{
		{Name: "publishingInterval", Meaning: "how often the server sends what has changed, in milliseconds; " + whose, Default: "the property's collectCycle", Allowed: "10 to 3600000"},
		{Name: "samplingInterval", Meaning: "how often the server looks at the value, in milliseconds; 0: as fast as it can", Default: "publishingInterval", Allowed: "0 to 3600000"},
		{Name: "queueSize", Meaning: "how many changes the server keeps between two publishings", Default: "1: the newest", Allowed: "1 to 10000"},
		{Name: "discardOldest", Meaning: "which change is dropped when the queue is full: the oldest, or the newest", Default: "true", Allowed: "true, false"},
		{Name: "trigger", Meaning: "what counts as a change", Default: "StatusValue", Allowed: strings.Join(triggerText, ", ")},
		{Name: "deadband", Meaning: "changes up to so much are not sent; a server that refuses that sends all of them", Default: "0", Allowed: "a number of the value's unit, or 0% to 100% of the value's range"},
	}
}

// parseConfig judges a device's configuration without I/O.
func parseConfig(cfg device.Config) (config, error) {
	f := device.NewFields(configPath, cfg.Protocol)
	var c config
	c.parseURL(f)
	c.parseSecurity(f)
	c.parseUser(f)
	ms := f.Int(5000, 1, 60000, "timeout")
	switch {
	case ms <= 60: // KubeEdge's unit
		c.timeout = time.Duration(ms) * time.Second
	case ms < 100:
		f.Fail("timeout", ms, "is neither seconds nor milliseconds", "100 to 60000 (milliseconds), 1 to 60 (seconds)")
	default:
		c.timeout = time.Duration(ms) * time.Millisecond
	}
	c.sessionTimeout = time.Duration(f.Int(60, 10, 3600, "sessionTimeout")) * time.Second
	c.watchdog = millis(f, 5000, 500, 600000, "watchdog")
	c.maxNodes = int(f.Int(1000, 1, 10000, "maxNodes"))
	c.poll = !f.Bool(true, "subscribe")
	c.defaults = parseSampling(f, defaultSampling)
	return c, f.Err(describeDevice())
}

func millis(f *device.Fields, def, low, high int64, name string) time.Duration {
	return time.Duration(f.Int(def, low, high, name)) * time.Millisecond
}

func (c *config) parseURL(f *device.Fields) {
	const allowed = "opc.tcp://host:port/path"
	f.Require(allowed, urlNames...)
	text := f.Text("", urlNames...)
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "opc.tcp" || u.Hostname() == "" || u.User != nil {
		f.Fail("url", text, "is not the address of an OPC UA server", allowed)
		return
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	c.url, c.address = u.String(), net.JoinHostPort(u.Hostname(), port)
}

// parseSecurity reads policy and mode. What is not said is never taken to mean less than what is said.
func (c *config) parseSecurity(f *device.Fields) {
	hasPolicy, hasMode := f.Has("securityPolicy"), f.Has("securityMode")
	if text := f.Text("", "securityPolicy"); strings.HasPrefix(text, ua.SecurityPolicyURIPrefix) {
		c.policy = text
		if policyName(text) == "" {
			f.Fail("securityPolicy", text, "is not known", strings.Join(policyAllowed, ", "))
		}
	} else {
		c.policy = device.Choice(f, ua.SecurityPolicyURINone, policyWords, policyAllowed, "securityPolicy")
	}
	c.mode = device.Choice(f, ua.MessageSecurityModeNone, modeWords, modeAllowed, "securityMode")
	switch {
	case hasPolicy && !hasMode && c.policy != ua.SecurityPolicyURINone:
		c.mode = ua.MessageSecurityModeSignAndEncrypt
	case hasMode && !hasPolicy && c.mode != ua.MessageSecurityModeNone:
		c.policy = policyAuto
	case (c.policy == ua.SecurityPolicyURINone) != (c.mode == ua.MessageSecurityModeNone):
		f.Fail("securityMode", f.Text("", "securityMode"), "contradicts securityPolicy: None goes with None alone", "None for None, otherwise Sign or SignAndEncrypt")
	}
	if c.policy == policyAuto {
		c.policy = ""
	}
	c.certificate, c.privateKey = pair(f, "certificate", "privateKey")
	c.remote = f.Text("", "remoteCertificate")
}

// pair reads the names of two files that go together.
func pair(f *device.Fields, cert, key string) (string, string) {
	a, b := f.Text("", cert), f.Text("", key)
	if a != "" && b == "" {
		f.Fail(key, nil, "is missing", "the file of the key of "+cert)
	}
	if a == "" && b != "" {
		f.Fail(cert, nil, "is missing", "the file of the certificate of "+key)
	}
	return a, b
}

func (c *config) parseUser(f *device.Fields) {
	c.user = f.Text("", userNames...)
	c.password = f.Verbatim("", "password")
	if c.user == "" && c.password != "" {
		f.Fail("userName", nil, "is missing", "the user of password")
	}
	c.userCert, c.userKey = pair(f, "userCertificate", "userPrivateKey")
	if c.user != "" && c.userCert != "" {
		f.Fail("userCertificate", c.userCert, "contradicts userName: a session has one user", "one of the two")
	}
	c.plainPassword = f.Bool(false, "plainPassword")
}

// policyName is a policy's short name, empty for one that is not supported.
func policyName(uri string) string {
	for _, name := range policyAllowed[:4] {
		if policyWords[strings.ToLower(strings.ReplaceAll(name, "-", ""))] == uri {
			return name
		}
	}
	return ""
}

// String says what the connection is like, for messages.
func (c *config) String() string {
	if c.mode == ua.MessageSecurityModeNone {
		return c.url
	}
	name := policyName(c.policy)
	if name == "" {
		name = policyAuto
	}
	return fmt.Sprintf("%s (%s, %s)", c.url, name, modeText(c.mode))
}

func modeText(m ua.MessageSecurityMode) string {
	if n := int(m) - 1; n >= 0 && n < len(modeAllowed) {
		return modeAllowed[n]
	}
	return "no mode"
}

// shared is the part of a configuration that the connection depends on.
func (c config) shared() config {
	c.defaults, c.poll, c.maxNodes = sampling{}, false, 0
	return c
}
