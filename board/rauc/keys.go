package rauc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// DevelopmentKeys returns keys to sign bundles of development with, and makes them in dir if they are not there: a CA, and a signer of its. Whoever has dir
// can update every gateway whose image was made with its keyring, so images that leave the house are made with keys of their own (docs/updates.md).
func DevelopmentKeys(dir string, now time.Time) (Keys, error) {
	k := Keys{Cert: filepath.Join(dir, "signer.pem"), Key: filepath.Join(dir, "signer.key"), Keyring: filepath.Join(dir, "keyring.pem")}
	if _, err := os.Stat(k.Keyring); err == nil {
		return k, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Keys{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Keys{}, err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Keys{}, err
	}
	signerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Keys{}, err
	}
	from, to := now.Add(-time.Hour).UTC(), now.AddDate(20, 0, 0).UTC()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Skerry development updates"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	signer := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Skerry development signer"}, NotBefore: from, NotAfter: to,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return Keys{}, err
	}
	signerDER, err := x509.CreateCertificate(rand.Reader, signer, ca, signerKey.Public(), caKey)
	if err != nil {
		return Keys{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(signerKey)
	if err != nil {
		return Keys{}, err
	}
	for _, f := range []struct {
		path, kind string
		der        []byte
	}{{k.Key, "PRIVATE KEY", keyDER}, {k.Cert, "CERTIFICATE", signerDER}, {k.Keyring, "CERTIFICATE", caDER}} { // the keyring last: it says that all is there
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			return Keys{}, fmt.Errorf("keep the development keys: %w", err)
		}
	}
	return k, nil
}
