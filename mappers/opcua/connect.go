package opcua

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"github.com/skerry/skerry/mappers/opcua/channel"
)

const transportBinary = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"

// connect opens a channel and a session and reads what every connection needs to know of its server.
func (e *endpoint) connect(ctx context.Context) (*client, error) {
	sec, server, err := e.security(ctx)
	if err != nil {
		return nil, err
	}
	dialCtx, cancel := context.WithTimeout(ctx, e.config.timeout)
	defer cancel()
	ch, err := channel.Dial(dialCtx, e.options(sec))
	if err != nil {
		return nil, err
	}
	c := newClient(e, ch, sec)
	if err = c.createSession(ctx, server); err == nil {
		err = c.learn(ctx)
	}
	if err != nil {
		c.close(err)
		return nil, err
	}
	e.known = server
	return c, nil
}

func (e *endpoint) options(sec channel.Security) channel.Options {
	return channel.Options{Address: e.config.address, URL: e.config.url, Security: sec, Dial: e.driver.dial}
}

// security decides how the channel is secured, and returns the server's endpoint for that; nil without security.
func (e *endpoint) security(ctx context.Context) (channel.Security, *ua.EndpointDescription, error) {
	cfg := &e.config
	if cfg.mode == ua.MessageSecurityModeNone {
		return channel.None(), nil, nil
	}
	sec := channel.Security{Policy: cfg.policy, Mode: cfg.mode}
	var err error
	if sec.Certificate, sec.Key, err = e.ownCertificate(); err != nil {
		return sec, nil, err
	}
	server := e.known
	if server == nil {
		if server, err = e.discover(ctx); err != nil {
			return sec, nil, err
		}
	}
	if err := e.verify(server.ServerCertificate, server.Server); err != nil {
		return sec, nil, err
	}
	sec.Policy = server.SecurityPolicyURI
	sec.Remote, err = leaf(server.ServerCertificate)
	return sec, server, err
}

// discover asks the server for its endpoints, and chooses the one that fits. None of another security is ever taken.
func (e *endpoint) discover(ctx context.Context) (*ua.EndpointDescription, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.timeout)
	defer cancel()
	ch, err := channel.Dial(ctx, e.options(channel.None()))
	if err != nil {
		return nil, err
	}
	defer ch.Close()
	got, err := ch.Call(ctx, &ua.GetEndpointsRequest{EndpointURL: e.config.url}, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for its endpoints: %w", err)
	}
	res, ok := got.(*ua.GetEndpointsResponse)
	if !ok {
		return nil, errors.New("the server does not list its endpoints")
	}
	return choose(res.Endpoints, e.config.policy, e.config.mode)
}

// ranked are the supported policies, the best first.
var ranked = [...]string{ua.SecurityPolicyURIAes256Sha256RsaPss, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIBasic256Sha256}

// choose finds the endpoint with this mode and policy; an empty policy means the best.
func choose(list []*ua.EndpointDescription, policy string, mode ua.MessageSecurityMode) (*ua.EndpointDescription, error) {
	wanted := ranked[:]
	if policy != "" {
		wanted = []string{policy}
	}
	for _, w := range wanted {
		for _, d := range list {
			if d.SecurityPolicyURI == w && d.SecurityMode == mode && (d.TransportProfileURI == "" || d.TransportProfileURI == transportBinary) {
				return d, nil
			}
		}
	}
	var offered []string
	for _, d := range list {
		text := modeText(d.SecurityMode) + " with " + strings.TrimPrefix(d.SecurityPolicyURI, ua.SecurityPolicyURIPrefix)
		if !slices.Contains(offered, text) && len(offered) < 16 {
			offered = append(offered, text)
		}
	}
	name := policyName(policy)
	if name == "" {
		name = "any supported policy"
	}
	return nil, fmt.Errorf("the server does not offer %s with %s; it offers %s", modeText(mode), name, strings.Join(offered, ", "))
}

// verify judges the server's certificate: by the one that is pinned, or else by the trust list.
func (e *endpoint) verify(der []byte, server *ua.ApplicationDescription) error {
	if len(der) == 0 {
		return errors.New("the server has no certificate")
	}
	if e.config.remote != "" {
		pinned, err := readCertificate(e.config.remote)
		if err != nil {
			return fmt.Errorf("remoteCertificate: %w", err)
		}
		got, err := leaf(der)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, pinned) {
			return fmt.Errorf("the server has another certificate than remoteCertificate %s", e.config.remote)
		}
		return nil
	}
	store, err := e.driver.certificates()
	if err != nil {
		return err
	}
	uri := ""
	if server != nil {
		uri = server.ApplicationURI
	}
	warnings, err := store.Verify(der, e.config.url, uri)
	for _, w := range warnings {
		e.driver.log.Warn("OPC UA server certificate", "server", e.config.url, "warning", w)
	}
	return err
}

// leaf is the first certificate of a chain.
func leaf(der []byte) ([]byte, error) {
	chain, err := x509.ParseCertificates(der)
	if err != nil || len(chain) == 0 {
		return nil, errors.New("the server's certificate cannot be read")
	}
	return chain[0].Raw, nil
}

// createSession creates and activates a session (Part 4, section 5.6). server is nil on a channel without security.
func (c *client) createSession(ctx context.Context, server *ua.EndpointDescription) error {
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	req := &ua.CreateSessionRequest{
		ClientDescription:       c.endpoint.description(c.security.Certificate),
		EndpointURL:             c.endpoint.config.url,
		SessionName:             "skerryd",
		ClientNonce:             nonce,
		ClientCertificate:       c.security.Certificate,
		RequestedSessionTimeout: float64(c.endpoint.config.sessionTimeout.Milliseconds()),
		MaxResponseMessageSize:  4 << 20,
	}
	got, err := c.call(ctx, req)
	if err != nil {
		return fmt.Errorf("create a session: %w", err)
	}
	res, ok := got.(*ua.CreateSessionResponse)
	if !ok || res.ServerSignature == nil {
		return errors.New("create a session: the server answers with something else")
	}
	if server != nil {
		if err := c.checkSession(res, server, nonce); err != nil {
			return err
		}
	}
	c.created, c.auth = res, res.AuthenticationToken
	c.lifetime = time.Duration(res.RevisedSessionTimeout) * time.Millisecond
	return c.activate(ctx, c.ch(), server)
}

// checkSession holds a session's answer to what was agreed: it proves the server's key, and shows whether somebody changed
// the list of endpoints, which came unprotected.
func (c *client) checkSession(res *ua.CreateSessionResponse, server *ua.EndpointDescription, nonce []byte) error {
	cert, err := leaf(res.ServerCertificate)
	if err != nil {
		return err
	}
	if !bytes.Equal(cert, c.security.Remote) {
		return errors.New("the session has another certificate than the endpoint")
	}
	key, err := channel.PublicKey(cert)
	if err != nil {
		return err
	}
	algo, err := uapolicy.Asymmetric(c.security.Policy, c.security.Key, key)
	if err != nil {
		return err
	}
	own, err := leaf(c.security.Certificate)
	if err != nil {
		return err
	}
	if err := algo.VerifySignature(slices.Concat(own, nonce), res.ServerSignature.Signature); err != nil {
		return errors.New("the server does not prove that it has the key of its certificate")
	}
	if len(res.ServerNonce) < 32 {
		return errors.New("the server's nonce is too short")
	}
	if len(res.ServerEndpoints) == 0 {
		return nil
	}
	best, err := choose(res.ServerEndpoints, c.endpoint.config.policy, c.endpoint.config.mode)
	if err != nil || best.SecurityPolicyURI != server.SecurityPolicyURI {
		return errors.New("the server's list of endpoints was not the same before the channel was secured: somebody may have changed it on the way")
	}
	return nil
}

// description is what the client says of itself.
func (e *endpoint) description(cert []byte) *ua.ApplicationDescription {
	uri := ""
	if own, err := x509.ParseCertificate(cert); err == nil && len(own.URIs) > 0 {
		uri = own.URIs[0].String()
	}
	if uri == "" {
		host, _ := os.Hostname()
		uri = "urn:" + host + ":skerry:skerryd"
	}
	return &ua.ApplicationDescription{
		ApplicationURI: uri, ProductURI: "urn:skerry:skerryd", ApplicationName: ua.NewLocalizedText("Skerry"), ApplicationType: ua.ApplicationTypeClient,
	}
}
