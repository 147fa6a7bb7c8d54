package opcua

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"github.com/skerry/skerry/mappers/opcua/channel"
)

// ownCertificate is the client's certificate and key: the configured files, or the agent's own.
func (e *endpoint) ownCertificate() ([]byte, *rsa.PrivateKey, error) {
	if e.config.certificate != "" {
		return readPair(e.config.certificate, e.config.privateKey)
	}
	store, err := e.driver.certificates()
	if err != nil {
		return nil, nil, err
	}
	own, err := store.Own()
	if err != nil {
		return nil, nil, err
	}
	return own.DER, own.Key, nil
}

// maxFile limits what is read of a configured file.
const maxFile = 256 << 10

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	return b, nil
}

// unwrap returns the first PEM block's bytes, or all of it if it is not PEM.
func unwrap(b []byte) []byte {
	if block, _ := pem.Decode(b); block != nil {
		return block.Bytes
	}
	return b
}

func readCertificate(path string) ([]byte, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(unwrap(b))
	if err != nil {
		return nil, fmt.Errorf("%s is not a certificate: %w", path, err)
	}
	return cert.Raw, nil
}

// readPair reads a certificate and its key.
func readPair(certPath, keyPath string) ([]byte, *rsa.PrivateKey, error) {
	cert, err := readCertificate(certPath)
	if err != nil {
		return nil, nil, err
	}
	b, err := readFile(keyPath)
	if err != nil {
		return nil, nil, err
	}
	der := unwrap(b)
	var key *rsa.PrivateKey
	if any8, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		key, _ = any8.(*rsa.PrivateKey)
	} else if key, err = x509.ParsePKCS1PrivateKey(der); err != nil {
		key = nil
	}
	if key == nil {
		return nil, nil, fmt.Errorf("%s is not an RSA key without a passphrase", keyPath)
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, nil, err
	}
	if public, ok := parsed.PublicKey.(*rsa.PublicKey); !ok || !public.Equal(&key.PublicKey) {
		return nil, nil, fmt.Errorf("%s is not the key of %s", keyPath, certPath)
	}
	return cert, key, nil
}

// activate proves who the user is.
func (c *client) activate(ctx context.Context, ch *channel.Channel, server *ua.EndpointDescription) error {
	s := c.created
	if server == nil {
		server = &ua.EndpointDescription{SecurityPolicyURI: c.security.Policy, SecurityMode: c.security.Mode}
		if found, err := choose(s.ServerEndpoints, c.security.Policy, c.security.Mode); err == nil {
			server = found
		}
	}
	req := &ua.ActivateSessionRequest{ClientSignature: &ua.SignatureData{}, UserTokenSignature: &ua.SignatureData{}}
	if c.security.Mode != ua.MessageSecurityModeNone {
		algo, err := uapolicy.Asymmetric(c.security.Policy, c.security.Key, nil)
		if err != nil {
			return err
		}
		if req.ClientSignature, err = sign(algo, c.security.Remote, s.ServerNonce); err != nil {
			return err
		}
	}
	token, signature, err := c.token(s, server)
	if err != nil {
		return err
	}
	req.UserIdentityToken = ua.NewExtensionObject(token)
	if signature != nil {
		req.UserTokenSignature = signature
	}
	got, err := c.callOn(ctx, ch, req)
	if err != nil {
		return fmt.Errorf("log in as %s: %w", c.endpoint.config.userText(), err)
	}
	if res, ok := got.(*ua.ActivateSessionResponse); ok {
		s.ServerNonce = res.ServerNonce // for the next time
	}
	return nil
}

func (c *config) userText() string {
	switch {
	case c.user != "":
		return "user " + c.user
	case c.userCert != "":
		return "the user of " + c.userCert
	default:
		return "anonymous"
	}
}

func sign(algo *uapolicy.EncryptionAlgorithm, cert, nonce []byte) (*ua.SignatureData, error) {
	signature, err := algo.Signature(slices.Concat(cert, nonce))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return &ua.SignatureData{Algorithm: algo.SignatureURI(), Signature: signature}, nil
}

// token makes the user's identity token, and its signature if it has one.
func (c *client) token(s *ua.CreateSessionResponse, server *ua.EndpointDescription) (any, *ua.SignatureData, error) {
	cfg := &c.endpoint.config
	kind := ua.UserTokenTypeAnonymous
	switch {
	case cfg.user != "":
		kind = ua.UserTokenTypeUserName
	case cfg.userCert != "":
		kind = ua.UserTokenTypeCertificate
	}
	policy, uri, err := tokenPolicy(server, kind, cfg.userText())
	if err != nil {
		return nil, nil, err
	}
	if kind == ua.UserTokenTypeAnonymous {
		return &ua.AnonymousIdentityToken{PolicyID: policy}, nil, nil
	}
	var key *rsa.PublicKey
	var cert []byte
	if uri != ua.SecurityPolicyURINone {
		if cert, key, err = c.serverKey(s, server); err != nil {
			return nil, nil, err
		}
	}
	if kind == ua.UserTokenTypeUserName {
		token, err := c.userName(policy, uri, key, s.ServerNonce)
		return token, nil, err
	}
	if key == nil {
		return nil, nil, errors.New("the server takes user certificates without a signature; that proves nothing")
	}
	userCert, userKey, err := readPair(cfg.userCert, cfg.userKey)
	if err != nil {
		return nil, nil, fmt.Errorf("userCertificate: %w", err)
	}
	algo, err := uapolicy.Asymmetric(uri, userKey, key)
	if err != nil {
		return nil, nil, err
	}
	signature, err := sign(algo, cert, s.ServerNonce)
	return &ua.X509IdentityToken{PolicyID: policy, CertificateData: userCert}, signature, err
}

// tokenPolicy finds how an endpoint takes users of a kind: the policy's id, and the security policy that protects the token.
func tokenPolicy(server *ua.EndpointDescription, kind ua.UserTokenType, who string) (id, uri string, err error) {
	rank := -1
	for _, t := range server.UserIdentityTokens {
		if t.TokenType != kind {
			continue
		}
		u := t.SecurityPolicyURI
		if u == "" {
			u = server.SecurityPolicyURI
		}
		r := 0
		if i := slices.Index(ranked[:], u); i >= 0 {
			r = len(ranked) - i
		} else if u != ua.SecurityPolicyURINone && kind != ua.UserTokenTypeAnonymous {
			continue // a policy that is not supported
		}
		if r > rank {
			rank, id, uri = r, t.PolicyID, u
		}
	}
	if rank < 0 && kind == ua.UserTokenTypeAnonymous && len(server.UserIdentityTokens) == 0 {
		return "anonymous", "", nil // the server did not say; it will
	}
	if rank < 0 {
		return "", "", fmt.Errorf("the server does not let %s in at this endpoint", who)
	}
	return id, uri, nil
}

// serverKey is the key that protects the user's token. On a channel without security nobody has verified it yet.
func (c *client) serverKey(s *ua.CreateSessionResponse, server *ua.EndpointDescription) ([]byte, *rsa.PublicKey, error) {
	cert := c.security.Remote
	if cert == nil {
		der := s.ServerCertificate
		if len(der) == 0 {
			der = server.ServerCertificate
		}
		if err := c.endpoint.verify(der, server.Server); err != nil {
			return nil, nil, err
		}
		var err error
		if cert, err = leaf(der); err != nil {
			return nil, nil, err
		}
	}
	key, err := channel.PublicKey(cert)
	return cert, key, err
}

// userName makes the token of a user and his password (Part 4, section 7.41.4).
func (c *client) userName(policy, uri string, key *rsa.PublicKey, nonce []byte) (any, error) {
	cfg := &c.endpoint.config
	t := &ua.UserNameIdentityToken{PolicyID: policy, UserName: cfg.user}
	if uri == ua.SecurityPolicyURINone {
		if c.security.Mode != ua.MessageSecurityModeSignAndEncrypt && !cfg.plainPassword {
			return nil, errors.New("the password would be sent readable for anybody on the network: use securityMode SignAndEncrypt, or allow it with plainPassword: true")
		}
		t.Password = []byte(cfg.password)
		return t, nil
	}
	algo, err := uapolicy.Asymmetric(uri, nil, key)
	if err != nil {
		return nil, err
	}
	secret := binary.LittleEndian.AppendUint32(nil, uint32(len(cfg.password)+len(nonce)))
	secret = append(append(secret, cfg.password...), nonce...)
	if t.Password, err = algo.Encrypt(secret); err != nil {
		return nil, fmt.Errorf("encrypt the password: %w", err)
	}
	t.EncryptionAlgorithm = algo.EncryptionURI()
	return t, nil
}
