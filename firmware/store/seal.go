package store

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/skerry/skerry/firmware/durable"
)

// ErrUnsealed is wrapped by the error of a value that does not open: it was altered, belongs to another key or version, or
// was sealed with another key.
var ErrUnsealed = errors.New("value does not open: altered, moved, or sealed with another key")

// Sealer seals values at rest. Its methods may be called concurrently.
type Sealer interface {
	// Seal appends the sealed plaintext to dst. ad is bound to it.
	Seal(dst, plaintext, ad []byte) ([]byte, error)
	// Open appends to dst what Seal was given, or fails with ErrUnsealed.
	Open(dst, sealed, ad []byte) ([]byte, error)
	// KeyID tells keys apart without saying anything about them.
	KeyID() [8]byte
}

// keySize is the length of a sealing key in bytes.
const keySize = chacha20poly1305.KeySize

type keySealer struct {
	aead cipher.AEAD
	id   [8]byte
}

// NewSealer returns a Sealer for a 32-byte key: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with random 24-byte nonces, which
// are long enough to be drawn at random for the life of a gateway. ARMv7 has no AES instructions, so AES-GCM would be slower.
func NewSealer(key []byte) (Sealer, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("store: sealing key: %w", err)
	}
	s := &keySealer{aead: aead}
	sum := sha256.Sum256(append([]byte("skerry key id\x00"), key...))
	copy(s.id[:], sum[:])
	return s, nil
}

func (s *keySealer) Seal(dst, plaintext, ad []byte) ([]byte, error) {
	var nonce [chacha20poly1305.NonceSizeX]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("store: no random nonce: %w", err)
	}
	return s.aead.Seal(append(dst, nonce[:]...), nonce[:], plaintext, ad), nil
}

func (s *keySealer) Open(dst, sealed, ad []byte) ([]byte, error) {
	n := chacha20poly1305.NonceSizeX
	if len(sealed) < sealOverhead {
		return nil, ErrUnsealed
	}
	out, err := s.aead.Open(dst, sealed[:n], sealed[n:], ad)
	if err != nil {
		return nil, ErrUnsealed
	}
	return out, nil
}

func (s *keySealer) KeyID() [8]byte { return s.id }

// Key files: magic[8] key[32] sha256-of-both[16], in two copies, each mode 0600.
const (
	keyMagic    = "SKRYKEY1"
	keyFileSize = 8 + keySize + 16
)

// FileSealer is a Sealer whose key is in a file that only root can read.
type FileSealer struct {
	Sealer
	path    string
	repairs []string
}

// OpenKeyFile returns a Sealer whose key is in the file at path and in a second copy at path + ".copy". Both are made, with a
// random key, when neither exists; a damaged or missing copy is made again from the good one. If no copy is good, both are set
// aside as *.damaged-N and a new key is made: what was sealed with the old one cannot be read by anybody, and the relay sends
// it again. Open lists such repairs in Recovery.
//
// A key file that others than its owner may read is an error: it may be in a backup or another user's hands by now.
func OpenKeyFile(path string) (*FileSealer, error) {
	sealer, repairs, err := openKeyFile(path)
	if err != nil {
		return nil, err
	}
	return &FileSealer{Sealer: sealer, path: path, repairs: repairs}, nil
}

// findings says what was repaired when the key was read.
func (s *FileSealer) findings() []Finding {
	var fs []Finding
	for _, r := range s.repairs {
		fs = append(fs, Finding{KeyRepaired, s.path, r})
	}
	return fs
}

func openKeyFile(path string) (sealer Sealer, notes []string, err error) {
	if err := durable.MakeDir(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("store: folder of the sealing key: %w", err)
	}
	paths := [2]string{path, path + ".copy"}
	var keys [2][]byte
	var there, good []byte
	for i, p := range paths {
		k, found, err := readKeyFile(p)
		if err != nil {
			return nil, nil, err
		}
		if found {
			there = append(there, byte(i))
		}
		if k != nil {
			keys[i], good = k, k
		}
	}
	if keys[0] != nil && keys[1] != nil && !bytes.Equal(keys[0], keys[1]) {
		return nil, nil, fmt.Errorf("store: the sealing keys %s and %s are both whole but differ: remove the one that does not belong to this gateway", paths[0], paths[1])
	}
	if good == nil {
		good = make([]byte, keySize)
		if _, err := rand.Read(good); err != nil {
			return nil, nil, fmt.Errorf("store: no random key: %w", err)
		}
		if len(there) > 0 {
			notes = append(notes, "no copy of the sealing key was whole; a new key was made, what the old one sealed is lost")
		}
	}
	for i, p := range paths {
		if keys[i] != nil {
			continue
		}
		if bytes.IndexByte(there, byte(i)) >= 0 {
			aside, err := setAside(osFS{}, p)
			if err != nil {
				return nil, nil, err
			}
			notes = append(notes, fmt.Sprintf("sealing key %s was damaged; set aside as %s", p, filepath.Base(aside)))
		}
		if fresh := keys[0] == nil && keys[1] == nil && len(there) == 0; !fresh {
			notes = append(notes, "sealing key "+p+" was missing or damaged; written anew from its other copy")
		}
		if err := writeKeyFile(p, good); err != nil {
			return nil, nil, err
		}
	}
	sealer, err = NewSealer(good)
	return sealer, notes, err
}

// readKeyFile returns a nil key when the file is missing or damaged.
func readKeyFile(path string) (key []byte, found bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("store: sealing key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("store: sealing key %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, false, fmt.Errorf("store: sealing key %s has mode %04o, others can read it: run chmod 600 %s, or remove it to begin with a new key", path, perm, path)
	}
	if info.Size() != keyFileSize {
		return nil, true, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("store: sealing key: %w", err)
	}
	if len(b) != keyFileSize {
		return nil, true, nil
	}
	sum := sha256.Sum256(b[:8+keySize])
	if string(b[:8]) != keyMagic || !bytes.Equal(sum[:16], b[8+keySize:]) {
		return nil, true, nil
	}
	return b[8 : 8+keySize], true, nil
}

// writeKeyFile makes the file whole or not at all: it is written under another name, synced, and then linked, which fails if path appeared meanwhile.
func writeKeyFile(path string, key []byte) error {
	b := append([]byte(keyMagic), key...)
	sum := sha256.Sum256(b)
	b = append(b, sum[:16]...)
	var suffix [8]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return fmt.Errorf("store: no random name: %w", err)
	}
	tmp := fmt.Sprintf("%s.new-%x", path, suffix)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("store: sealing key: %w", err)
	}
	defer os.Remove(tmp)
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("store: writing the sealing key %s: %w", path, err)
	}
	return osFS{}.syncDir(filepath.Dir(path))
}

// appendAD appends what is bound to a sealed value. All but the key have a fixed length, so two different inputs never give the same bytes.
func appendAD(b []byte, k recKey, seq uint64, del bool) []byte {
	b = append(b, "skerry1"...)
	kind := byte(changePut)
	if del {
		kind = changeDelete
	}
	b = append(b, kind, byte(k.space))
	b = binary.LittleEndian.AppendUint64(b, seq)
	return append(b, k.key...)
}
