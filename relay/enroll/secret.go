package enroll

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// What is in Secret skerry-ca, all PEM. A release that does not know a field keeps working without it.
const (
	fieldCert         = corev1.TLSCertKey       // the CA that signs
	fieldPrivateKey   = corev1.TLSPrivateKeyKey // its key
	fieldRoots        = "ca.crt"                // all CAs whose certificates are accepted; the one that signs always is
	fieldPrevious     = "previous.crt"          // during a rotation: the other CA
	fieldPreviousKey  = "previous.key"
	fieldCross        = "cross.crt"   // successors, each signed by the CA before it, the newest first
	fieldRetired      = "retired.crt" // CAs whose certificates can be renewed, and nothing else, each with headerRetired
	annotationRotated = "skerry.dev/rotation-began"

	// headerRetired is a header of each PEM block in retired.crt: when the CA was retired, RFC 3339. Earlier releases ignore it, and
	// drop it when they write.
	headerRetired = "Retired"
)

// Old CAs that are remembered. Each successor costs half a kilobyte in every full TLS handshake.
const maxGenerations = 8

func readCA(ctx context.Context, c kubernetes.Interface) (*corev1.Secret, *CA, error) {
	secret, err := c.CoreV1().Secrets(Namespace).Get(ctx, CASecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("%w (Secret %s/%s): run `skerryctl init`; if gateways have joined already, restore it from a backup instead", ErrNoCA, Namespace, CASecret)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read Secret %s/%s: %w", Namespace, CASecret, err)
	}
	ca, err := parseSecret(secret)
	return secret, ca, err
}

func parseSecret(secret *corev1.Secret) (*CA, error) {
	ca, err := parseCA(secret.Data)
	if err != nil {
		return nil, fmt.Errorf("the CA in Secret %s/%s: %w: restore it from a backup; a new CA would lock out every gateway that has joined", Namespace, CASecret, err)
	}
	if at, err := time.Parse(time.RFC3339, secret.Annotations[annotationRotated]); err == nil {
		ca.began = at
	}
	return ca, nil
}

func parseCA(data map[string][]byte) (*CA, error) {
	ca, err := parsePair(data[fieldCert], data[fieldPrivateKey])
	if err != nil {
		return nil, err
	}
	if len(data[fieldPrevious]) > 0 {
		if ca.previous, err = parsePair(data[fieldPrevious], data[fieldPreviousKey]); err != nil {
			return nil, fmt.Errorf("%s: %w", fieldPrevious, err)
		}
	}
	if ca.retired, err = parseRetired(data[fieldRetired]); err != nil {
		return nil, fmt.Errorf("%s: %w", fieldRetired, err)
	}
	for field, into := range map[string]*[]*x509.Certificate{fieldRoots: &ca.roots, fieldCross: &ca.cross} {
		list, err := parseCerts(data[field])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		for _, c := range list {
			if !slices.ContainsFunc(*into, c.Equal) {
				*into = append(*into, c)
			}
		}
	}
	return ca, nil
}

func parsePair(cert, private []byte) (*CA, error) {
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the key is a %T, which cannot sign", pair.PrivateKey)
	}
	if !pair.Leaf.IsCA {
		return nil, errors.New("the certificate is not a CA's")
	}
	return &CA{cert: pair.Leaf, key: key, roots: []*x509.Certificate{pair.Leaf}}, nil
}

func parseCerts(text []byte) (out []*x509.Certificate, err error) {
	list, err := parseRetired(text)
	for _, r := range list {
		out = append(out, r.cert)
	}
	return out, err
}

// parseRetired reads certificates, and the dates beside them, if there are any. A date that cannot be read is missing.
func parseRetired(text []byte) (out []retiredCA, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		at, err := time.Parse(time.RFC3339, block.Headers[headerRetired])
		if err != nil {
			at = time.Time{}
		}
		if !slices.ContainsFunc(out, func(r retiredCA) bool { return r.cert.Equal(c) }) {
			out = append(out, retiredCA{c, at})
		}
	}
}

func encodeRetired(list []retiredCA) []byte {
	var out bytes.Buffer
	for _, r := range list {
		block := pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw}
		if !r.at.IsZero() {
			block.Headers = map[string]string{headerRetired: r.at.UTC().Format(time.RFC3339)}
		}
		out.Write(pem.EncodeToMemory(&block))
	}
	return out.Bytes()
}

func encodeCerts(list ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range list {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.Bytes()
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (ca *CA) secret() (*corev1.Secret, error) {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: CASecret, Namespace: Namespace}, Type: corev1.SecretTypeTLS}
	return s, ca.into(s)
}

// into writes the CA into its Secret; what the Secret holds besides is kept.
func (ca *CA) into(s *corev1.Secret) error {
	key, err := encodeKey(ca.key)
	if err != nil {
		return err
	}
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	s.Data[fieldCert], s.Data[fieldPrivateKey] = encodeCerts(ca.cert), key
	s.Data[fieldRoots] = encodeCerts(ca.roots...)
	for field, text := range map[string][]byte{fieldCross: encodeCerts(ca.cross...), fieldRetired: encodeRetired(ca.retired)} {
		delete(s.Data, field)
		if len(text) > 0 {
			s.Data[field] = text
		}
	}
	delete(s.Data, fieldPrevious)
	delete(s.Data, fieldPreviousKey)
	delete(s.Annotations, annotationRotated)
	if ca.previous == nil {
		return nil
	}
	s.Data[fieldPrevious] = encodeCerts(ca.previous.cert)
	if s.Data[fieldPreviousKey], err = encodeKey(ca.previous.key); err != nil {
		return err
	}
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[annotationRotated] = ca.began.UTC().Format(time.RFC3339)
	return nil
}
