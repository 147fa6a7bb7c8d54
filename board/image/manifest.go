package image

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Manifest says what belongs to an image, by size and hash.
type Manifest struct {
	Board    string         `json:"board"`
	Version  string         `json:"version"`
	Time     time.Time      `json:"time"` // SOURCE_DATE_EPOCH
	RootHash string         `json:"rootHash"`
	Files    []ManifestFile `json:"files"`
}

// ManifestFile is one file beside the manifest.
type ManifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// The signature of a manifest is in a file beside it, 64 raw bytes, and the key that it is good for in another.
const (
	SignatureSuffix = ".sig"
	PublicKeySuffix = ".pub.pem"
)

// writeManifest writes and signs the manifest of these files, which lie in one folder.
func writeManifest(path string, m Manifest, files []string, key ed25519.PrivateKey) error {
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			return err
		}
		sum, err := hashFile(f)
		if err != nil {
			return err
		}
		m.Files = append(m.Files, ManifestFile{filepath.Base(f), st.Size(), sum})
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	signature, err := key.Sign(nil, text, crypto.Hash(0)) // Ed25519 has no random part: the same manifest has the same signature
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, text, 0o644), os.WriteFile(path+SignatureSuffix, signature, 0o644),
		os.WriteFile(path+PublicKeySuffix, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644))
}

// SigningKey reads an Ed25519 key (PKCS #8, PEM) that manifests are signed with.
func SigningKey(file string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no private key in PEM (PKCS #8): make one with `openssl genpkey -algorithm ed25519`", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, and manifests are signed with Ed25519: make a key with `openssl genpkey -algorithm ed25519`", file, key)
	}
	return k, nil
}

// DevelopmentKey returns a signing key that is kept in a file, and makes it if it is not there.
func DevelopmentKey(file string) (ed25519.PrivateKey, error) {
	if _, err := os.Stat(file); err == nil {
		return SigningKey(file)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
