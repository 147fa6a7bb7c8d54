package pki

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// maxRejected bounds the rejected folder: the newest stay.
const maxRejected = 64

// budget is a token bucket. A server that shows another certificate at each connection must not wear out the flash.
type budget struct {
	used int
	last time.Time
}

const (
	budgetSize   = 16
	budgetRefill = time.Minute
)

// take returns whether one more write is allowed now.
func (b *budget) take(now time.Time) bool {
	if n := int(now.Sub(b.last) / budgetRefill); b.last.IsZero() || n < 0 || n > budgetSize {
		b.used, b.last = 0, now
	} else {
		b.used, b.last = max(0, b.used-n), b.last.Add(time.Duration(n)*budgetRefill)
	}
	if b.used >= budgetSize {
		return false
	}
	b.used++
	return true
}

// reject files a certificate that was refused, unless it is there already, and drops the oldest beyond maxRejected. It
// returns whether the certificate can be trusted by its fingerprint now.
func (s *Store) reject(cert *x509.Certificate) (bool, error) {
	dir := filepath.Join(s.dir, "rejected", "certs")
	path := filepath.Join(dir, Fingerprint(cert.Raw)+".der")
	if _, err := os.Stat(path); err == nil {
		return true, nil
	}
	if !s.budget.take(s.now()) {
		return false, nil
	}
	if err := s.shrink(dir, maxRejected-1); err != nil {
		return false, err
	}
	if err := replace(path, cert.Raw); err != nil {
		return false, err
	}
	return true, nil
}

// shrink removes the oldest files until at most keep are left.
func (s *Store) shrink(dir string, keep int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type aged struct {
		name string
		at   time.Time
	}
	var files []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, aged{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b aged) int { return a.at.Compare(b.at) })
	var errs []error
	for len(files) > keep {
		errs = append(errs, ignoreMissing(os.Remove(filepath.Join(dir, files[0].name))))
		files = files[1:]
	}
	return errors.Join(errs...)
}
