package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/durable"
)

// record is what a copy holds: JSON after a line with its checksum.
type record struct {
	Serial  uint64   `json:"serial"` // the higher of two intact copies is the newer
	Node    string   `json:"node"`
	TokenID string   `json:"tokenID"` // the token that the key was bound to
	Key     []byte   `json:"key"`     // PKCS #8
	Chain   [][]byte `json:"chain,omitempty"`
	Roots   [][]byte `json:"roots,omitempty"`
	// Issued is the relay's clock when it signed the chain. Zero in records of earlier releases.
	Issued time.Time `json:"issued,omitzero"`
}

const (
	header    = "skerry-identity-1 "
	maxRecord = 64 << 10
	current   = "identity" // the identity in use
	pending   = "joining"  // the key of an enrolment under way
)

// errDamaged marks a copy that is there and cannot be used.
var errDamaged = errors.New("damaged")

func copies(dir, name string) [2]string {
	return [2]string{filepath.Join(dir, name+".1"), filepath.Join(dir, name+".2")}
}

// readRecord returns the newest intact copy, and which copies are not equal to it. It fails with fs.ErrNotExist if there
// is no copy, and with errDamaged if there are only damaged ones.
func readRecord(dir, name string) (rec *record, stale []string, err error) {
	var (
		found    [2]*record
		problems []error
	)
	paths := copies(dir, name)
	for i, path := range paths {
		r, err := readCopy(path)
		switch {
		case err == nil:
			found[i] = r
		case !errors.Is(err, fs.ErrNotExist):
			problems = append(problems, err)
		}
	}
	best := 0
	if found[0] == nil || found[1] != nil && found[1].Serial > found[0].Serial {
		best = 1
	}
	if found[best] == nil {
		if len(problems) > 0 {
			return nil, nil, errors.Join(problems...)
		}
		return nil, nil, fmt.Errorf("no %s in %s: %w", name, dir, fs.ErrNotExist)
	}
	if other := found[1-best]; other == nil || other.Serial != found[best].Serial {
		stale = append(stale, paths[1-best])
	}
	return found[best], stale, nil
}

// onlyDamaged says of an error of readRecord that both copies were read, or one is missing, and none is whole. A disk that gives an error may give the copy at the next try.
func onlyDamaged(err error) bool {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // that of errors.Join itself
		all = joined.Unwrap()
	}
	return !slices.ContainsFunc(all, func(err error) bool { return !errors.Is(err, errDamaged) })
}

func readCopy(path string) (*record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r, err := decodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func decodeRecord(b []byte) (*record, error) {
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%w: larger than %d bytes", errDamaged, maxRecord)
	}
	line, body, ok := bytes.Cut(b, []byte("\n"))
	sum, isOurs := bytes.CutPrefix(line, []byte(header))
	if !ok || !isOurs {
		return nil, fmt.Errorf("%w: not an identity file", errDamaged)
	}
	if want := sha256.Sum256(body); hex.EncodeToString(want[:]) != string(sum) {
		return nil, fmt.Errorf("%w: its checksum does not match", errDamaged)
	}
	r := new(record)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return r, nil
}

func (r *record) encode() ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return append([]byte(header+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

// writeRecord makes both copies durable, one after the other, so that at every instant at least one is whole.
func writeRecord(dir, name string, r *record) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	for _, path := range copies(dir, name) {
		if err := durable.Replace(path, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func removeRecord(dir, name string) error {
	for _, path := range copies(dir, name) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(dir)
}

// makeDir makes dir and its parents, each durable in its own parent.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(parent)
}
