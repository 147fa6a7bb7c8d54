package channel

import (
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // thumbprints of certificates are SHA-1 by definition (Part 6, section 6.7.2.3)
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// Security is how a channel is secured. The zero value is not valid: say None.
type Security struct {
	Policy      string // URI
	Mode        ua.MessageSecurityMode
	Certificate []byte          // our own, DER
	Key         *rsa.PrivateKey // of Certificate
	Remote      []byte          // the server's certificate, DER, which the caller has verified
}

// None is no security.
func None() Security {
	return Security{Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone}
}

// secured tells whether messages are signed at least.
func (s *Security) secured() bool { return s.Mode != ua.MessageSecurityModeNone }

// PublicKey returns the RSA key of a certificate.
func PublicKey(der []byte) (*rsa.PublicKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the server's certificate cannot be read: %w", err)
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the server's certificate has a key of type %T; OPC UA's policies need RSA", cert.PublicKey)
	}
	return key, nil
}

// asymmetric returns the algorithms that open a channel.
func (s *Security) asymmetric() (*uapolicy.EncryptionAlgorithm, error) {
	if !s.secured() {
		if s.Policy != ua.SecurityPolicyURINone {
			return nil, fmt.Errorf("security policy %s needs mode Sign or SignAndEncrypt", s.Policy)
		}
		return uapolicy.Asymmetric(s.Policy, nil, nil)
	}
	if s.Policy == ua.SecurityPolicyURINone || s.Key == nil || len(s.Certificate) == 0 {
		return nil, errors.New("a signed channel needs a security policy, a certificate and its key")
	}
	remote, err := PublicKey(s.Remote)
	if err != nil {
		return nil, err
	}
	return uapolicy.Asymmetric(s.Policy, s.Key, remote)
}

// thumbprint identifies a certificate.
func thumbprint(der []byte) []byte {
	sum := sha1.Sum(der) //nolint:gosec // see the import
	return sum[:]
}

// protect signs, pads and encrypts a chunk, whose first head bytes stay readable, and sets its size.
func protect(algo *uapolicy.EncryptionAlgorithm, chunk []byte, head int, sign, encrypt bool) ([]byte, error) {
	if !sign {
		putSize(chunk, len(chunk))
		return chunk, nil
	}
	if encrypt {
		block := algo.PlaintextBlockSize()
		extra := algo.BlockSize() > 256 // the key is longer than 2048 bits: the padding's size takes two bytes
		sizes := 1
		if extra {
			sizes = 2
		}
		pad := (block - (len(chunk)-head+sizes+algo.SignatureLength())%block) % block
		for range pad + 1 {
			chunk = append(chunk, byte(pad))
		}
		if extra {
			chunk = append(chunk, byte(pad>>8))
		}
		putSize(chunk, head+(len(chunk)-head+algo.SignatureLength())/block*algo.BlockSize())
	} else {
		putSize(chunk, len(chunk)+algo.SignatureLength())
	}
	signature, err := algo.Signature(chunk)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	chunk = append(chunk, signature...)
	if !encrypt {
		return chunk, nil
	}
	sealed, err := algo.Encrypt(chunk[head:])
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return append(chunk[:head:head], sealed...), nil
}

var errForged = errors.New("a message of the server does not pass the security checks")

// open reverses protect; localKey is the size of our own key in bytes for an asymmetric chunk, 0 otherwise.
func open(algo *uapolicy.EncryptionAlgorithm, chunk []byte, head, localKey int, sign, encrypt bool) ([]byte, error) {
	if !sign {
		return chunk[head:], nil
	}
	if encrypt {
		plain, err := algo.Decrypt(chunk[head:])
		if err != nil {
			return nil, errForged
		}
		chunk = append(chunk[:head:head], plain...)
	}
	n := len(chunk) - algo.RemoteSignatureLength()
	if n < head {
		return nil, errForged
	}
	if err := algo.VerifySignature(chunk[:n], chunk[n:]); err != nil {
		return nil, errForged
	}
	body := chunk[head:n]
	if !encrypt {
		return body, nil
	}
	pad, sizes := 0, 1
	if localKey > 256 {
		sizes = 2
	}
	if len(body) < sizes {
		return nil, errForged
	}
	if sizes == 2 {
		pad = int(body[len(body)-1])<<8 | int(body[len(body)-2])
	} else {
		pad = int(body[len(body)-1])
	}
	if pad+sizes > len(body) {
		return nil, errForged
	}
	return body[:len(body)-pad-sizes], nil
}
