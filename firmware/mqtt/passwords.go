package mqtt

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/scrypt"
)

// Costs of a hash: 4 MiB of memory and some tens of milliseconds on a gateway. Larger ones in a file are refused: a gateway has no memory for them.
const (
	scryptLog, scryptR, scryptP = 12, 8, 1
	maxScryptLog, maxScryptMem  = 14, 16 << 20
	maxPasswordFile             = 256 << 10
	maxPassword                 = 8 << 10
	saltSize, hashSize          = 16, 32
)

// hash is the hash of a password: $scrypt$ln=12,r=8,p=1$SALT$HASH, the last two in base64 without padding.
type hash struct {
	log, r, p int
	salt, sum []byte
}

// HashPassword returns the line for a user's password in mqtt.passwordFile.
func HashPassword(user, password string) (string, error) {
	if !ValidUser(user) {
		return "", fmt.Errorf("user name %q: allowed are 1 to 128 letters, digits and -_.@/", user)
	}
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("a password has 1 to %d bytes", maxPassword)
	}
	h := hash{log: scryptLog, r: scryptR, p: scryptP, salt: make([]byte, saltSize), sum: make([]byte, hashSize)}
	if _, err := rand.Read(h.salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	var err error
	if h.sum, err = h.of([]byte(password)); err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("%s:$scrypt$ln=%d,r=%d,p=%d$%s$%s", user, h.log, h.r, h.p, b64.EncodeToString(h.salt), b64.EncodeToString(h.sum)), nil
}

// ValidUser tells whether s may be the name of an identity.
func ValidUser(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.@/", rune(c)) {
			return false
		}
	}
	return true
}

func (h hash) of(password []byte) ([]byte, error) {
	return scrypt.Key(password, h.salt, 1<<h.log, h.r, h.p, len(h.sum))
}

func parseHash(s string) (h hash, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 5 || parts[0] != "" || parts[1] != "scrypt" {
		return h, errors.New("want $scrypt$ln=…,r=…,p=…$SALT$HASH, as skerryd mqtt-password prints it")
	}
	costs := strings.Split(parts[2], ",")
	if len(costs) != 3 {
		return h, errors.New("want ln=…,r=…,p=…")
	}
	for i, c := range []struct {
		name string
		to   *int
		most int
	}{{"ln=", &h.log, maxScryptLog}, {"r=", &h.r, 32}, {"p=", &h.p, 4}} {
		text, ok := strings.CutPrefix(costs[i], c.name)
		n, err := strconv.Atoi(text)
		if !ok || err != nil || n < 1 || n > c.most {
			return h, fmt.Errorf("%q: want %s1 to %d", costs[i], c.name, c.most)
		}
		*c.to = n
	}
	if 128<<h.log*h.r > maxScryptMem {
		return h, fmt.Errorf("it takes %d MiB to check; allowed are %d", 128<<h.log*h.r>>20, maxScryptMem>>20)
	}
	b64 := base64.RawStdEncoding.Strict()
	if h.salt, err = b64.DecodeString(parts[3]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return h, errors.New("the salt is not base64 of 8 to 64 bytes")
	}
	if h.sum, err = b64.DecodeString(parts[4]); err != nil || len(h.sum) < 16 || len(h.sum) > 64 {
		return h, errors.New("the hash is not base64 of 16 to 64 bytes")
	}
	return h, nil
}

// parsePasswords reads a password file: a line USER:HASH for each user; empty lines and those that begin with # do not count.
func parsePasswords(text []byte) (map[string]hash, error) {
	out := make(map[string]hash)
	var wrong []error
	for n, line := range bytes.Split(text, []byte("\n")) {
		s := strings.TrimSpace(string(line))
		if s == "" || s[0] == '#' {
			continue
		}
		user, rest, _ := strings.Cut(s, ":")
		h, err := parseHash(rest)
		switch {
		case !ValidUser(user):
			err = errors.New("it does not begin with a user name and a colon")
		case err == nil && out[user].sum != nil:
			err = fmt.Errorf("user %q is there twice", user)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n+1, err)) // without the line, which may hold a password
			continue
		}
		out[user] = h
	}
	return out, errors.Join(wrong...)
}

// passwords is the password file. It is read again when it changes. One password is hashed at a time, because that takes memory; one that was right is not
// hashed again until the file changes. It is safe for concurrent use.
type passwords struct {
	path string
	key  []byte // of known

	mu    sync.Mutex
	at    time.Time
	size  int64
	users map[string]hash
	known map[[32]byte]bool
}

func newPasswords(path string) (*passwords, error) {
	p := &passwords{path: path, key: make([]byte, 32)}
	if _, err := rand.Read(p.key); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return p, nil
}

// check tells whether password is the user's. The error says that the file cannot be read.
func (p *passwords) check(user string, password []byte) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(); err != nil {
		return false, err
	}
	h, ok := p.users[user]
	if !ok || len(password) == 0 || len(password) > maxPassword {
		return false, nil
	}
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(user + "\x00"))
	mac.Write(password)
	proof := [32]byte(mac.Sum(nil))
	if p.known[proof] {
		return true, nil
	}
	sum, err := h.of(password)
	if err != nil {
		return false, fmt.Errorf("hash the password of %q: %w", user, err)
	}
	if subtle.ConstantTimeCompare(sum, h.sum) != 1 {
		return false, nil
	}
	p.known[proof] = true // at most one for each user
	return true, nil
}

// load reads the file if it has changed. The lock is held.
func (p *passwords) load() error {
	if p.path == "" {
		return nil
	}
	f, err := os.Open(p.path)
	if err != nil {
		return fmt.Errorf("mqtt.passwordFile: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("mqtt.passwordFile: %w", err)
	}
	if p.users != nil && st.ModTime().Equal(p.at) && st.Size() == p.size {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
	if err != nil {
		return fmt.Errorf("read mqtt.passwordFile %s: %w", p.path, err)
	}
	if len(text) > maxPasswordFile {
		return fmt.Errorf("mqtt.passwordFile %s is larger than %d bytes", p.path, maxPasswordFile)
	}
	users, err := parsePasswords(text)
	if err != nil {
		return fmt.Errorf("mqtt.passwordFile %s: %w", p.path, err)
	}
	p.users, p.at, p.size, p.known = users, st.ModTime(), st.Size(), make(map[[32]byte]bool)
	return nil
}
