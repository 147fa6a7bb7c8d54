package provision

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/wire/join"
)

// Medium is one place where a provisioning file may be.
type Medium interface {
	// Name is what a person calls it.
	Name() string
	// Use gives do the medium's root folder, writable; what was written is durable when Use returns without an error.
	Use(do func(dir string) error) error
	// Look gives do the root folder, only for reading.
	Look(do func(dir string) error) error
}

// Options configure Run. All but Settle and Log are needed.
type Options struct {
	Etc string // /etc
	// Identity is the folder that is looked at for an identity when skerryd.yaml cannot say where it is; default the agent's.
	Identity string
	Media    func() []Medium
	Console  io.Writer
	// Enroll joins; [Join] in earnest.
	Enroll func(ctx context.Context, cfg config.Config, token string) error
	// Settle makes the system take over host name and network settings.
	Settle func(ctx context.Context, hostname string) error
	Pause  time.Duration // between two looks for media; default 5 s
	Log    *slog.Logger
}

const (
	joinTry    = 2 * time.Minute // of one attempt to reach a relay, after which the result file says how it stands
	retryWrong = 10 * time.Minute
)

// Run provisions the gateway, and returns when it has joined.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Pause == 0 {
		o.Pause = 5 * time.Second
	}
	if o.Identity == "" {
		o.Identity = filepath.Join(config.Defaults().DataDir, "identity")
	}
	p := &provisioner{Options: o, tried: map[[sha256.Size]byte]time.Time{}}
	cfg, err := config.Load(filepath.Join(o.Etc, "skerry/skerryd.yaml"))
	if err == nil {
		id, err := identity.Load(cfg.IdentityDir)
		switch {
		case err == nil:
			p.eraseLeftOver(id)
			return nil
		case errors.Is(err, identity.ErrNotEnrolled):
		case errors.Is(err, identity.ErrDamaged):
			p.again = &cfg
			p.say("this gateway is node %q, and %v: a provisioning file with a token for that node is used for its token, and nothing else", cfg.Node.Name, err)
		default:
			p.locked = fmt.Errorf("this gateway is node %q, and %w: no provisioning file is used; restart the gateway, and exchange the disk or write the image anew if that does not help", cfg.Node.Name, err)
			p.say("%v", p.locked)
		}
	} else if p.locked = lock(o.Identity, err); p.locked != nil {
		p.say("%v", p.locked)
	} else if !errors.Is(err, os.ErrNotExist) {
		p.say("%v: it is replaced by the next provisioning file", err)
	}
	for told := false; ; {
		for _, m := range o.Media() {
			done, err := p.try(ctx, m)
			if done || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			told = told || err != nil
		}
		if !told && p.locked == nil && p.again == nil {
			p.say("this gateway belongs to no cluster yet: put %s on its partition provision or on a USB stick (docs/flashing.md)", FileName)
			told = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(o.Pause):
		}
	}
}

type provisioner struct {
	Options
	tried  map[[sha256.Size]byte]time.Time // files that were found wrong, and when
	locked error                           // why no file may be used
	again  *config.Config                  // of a gateway that has lost its identity; nil: it has none to lose
}

// lock returns an error if a gateway whose configuration does not load has an identity, or may have one. Such a gateway has joined: a stick must not
// take it over because a key of its configuration is misspelt, or because a new version does not know it.
func lock(dir string, config error) error {
	id, err := identity.Load(dir)
	switch {
	case errors.Is(err, identity.ErrNotEnrolled):
		return nil
	case err != nil:
		return fmt.Errorf("this gateway's configuration cannot be read (%w), nor whether it has joined: %w: no provisioning file is used; correct the configuration on the gateway, or write the image anew", config, err)
	}
	return fmt.Errorf("this gateway has joined as node %q, and its configuration cannot be read: %w: no provisioning file is used; correct the configuration on the gateway, or reset the gateway (skerryctl factory-reset -all)", id.Node(), config)
}

func (p *provisioner) say(format string, args ...any) {
	fmt.Fprintf(p.Console, "skerry: provisioning: "+format+"\n", args...)
}

// try uses the file of one medium, if there is one. err says only that something was told about it.
func (p *provisioner) try(ctx context.Context, m Medium) (done bool, err error) {
	text, err := read(m)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		p.Log.Warn("a medium cannot be read", "medium", m.Name(), "error", err)
		return false, nil
	}
	sum := sha256.Sum256(text)
	if at, ok := p.tried[sum]; ok && time.Since(at) < retryWrong {
		return false, nil
	}
	f, err := Parse(text)
	if errors.Is(err, ErrUsed) {
		return false, nil
	}
	switch {
	case p.locked != nil:
		err = p.locked
	case err == nil && p.again != nil && f.Node != p.again.Node.Name:
		err = fmt.Errorf("this gateway is node %q and has lost its identity: only a token for that node is taken, and this one is for %q: take the right file, or reset the gateway (skerryctl factory-reset -all)", p.again.Node.Name, f.Node)
	}
	wrong := err != nil
	if err == nil {
		p.say("found %s on %s: joining as node %q", FileName, m.Name(), f.Node)
		err = p.apply(ctx, f)
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		if r := (*refused)(nil); wrong || errors.As(err, &r) {
			p.tried[sum] = time.Now()
		}
		p.say("FAILED: %s on %s: %v", FileName, m.Name(), err)
		advice := "\nCorrect the file and put it in again, or restart the gateway."
		if p.locked != nil {
			advice = ""
		}
		p.result(m, "FAILED: "+err.Error()+advice)
		return false, err
	}
	if err := eraseToken(m, f.Token); err != nil {
		p.say("the token on %s cannot be erased: %v: erase it by hand", m.Name(), err)
	}
	p.say("joined as node %q", f.Node)
	p.result(m, fmt.Sprintf("OK: this gateway has joined as node %q. The token has been erased from %s.", f.Node, FileName))
	return true, nil
}

// apply writes the configuration and joins. A gateway that has lost its identity keeps its configuration, its relays above all: whoever spoils the identity and
// puts in a stick does not thereby get the gateway for a cluster of his own.
func (p *provisioner) apply(ctx context.Context, f File) error {
	if p.again != nil {
		return p.enroll(ctx, *p.again, f.Token)
	}
	text, cfg, err := f.Config()
	if err != nil {
		return err
	}
	files := f.networkFiles()
	files["hostname"] = f.Hostname + "\n"
	files["skerry/skerryd.yaml"] = string(text) // the last to be written: with it the agent starts
	for _, name := range order(files) {
		mode := os.FileMode(0o644)
		if name == "skerry/skerryd.yaml" {
			mode = 0o600 // a proxy's password may be in it
		}
		if err := replace(filepath.Join(p.Etc, name), files[name], mode); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	if p.Settle != nil {
		if err := p.Settle(ctx, f.Hostname); err != nil {
			p.say("network settings may count from the next start only: %v", err)
		}
	}
	return p.enroll(ctx, cfg, f.Token)
}

func (p *provisioner) enroll(ctx context.Context, cfg config.Config, token string) error {
	ctx, cancel := context.WithTimeout(ctx, joinTry)
	defer cancel()
	start := time.Now()
	err := p.Enroll(ctx, cfg, token)
	if err != nil && time.Since(start) < joinTry/2 {
		err = &refused{err} // it gives up for want of an answer only when its time is nearly over
	}
	return err
}

// refused says that joining failed for another reason than that nobody answered.
type refused struct{ err error }

func (r *refused) Error() string { return r.err.Error() }
func (r *refused) Unwrap() error { return r.err }

// order gives skerryd.yaml last.
func order(files map[string]string) []string {
	var names []string
	for name := range files {
		if name != "skerry/skerryd.yaml" {
			names = append(names, name)
		}
	}
	return append(names, "skerry/skerryd.yaml")
}

// eraseLeftOver erases the token that the gateway has joined with: power went between the two. Any other token is not this gateway's to touch, a fresh
// one for the same node included.
func (p *provisioner) eraseLeftOver(id *identity.Identity) {
	node := id.Node()
	for _, m := range p.Media() {
		text, err := read(m)
		if err != nil {
			continue
		}
		f, _ := Parse(text) // whatever else is wrong with the file, its token goes
		if t, err := join.ParseToken(f.Token); err != nil || t.Node != node || t.ID != id.TokenID() {
			continue
		}
		if err := eraseToken(m, f.Token); err != nil {
			p.say("the used token on %s cannot be erased: %v: erase it by hand", m.Name(), err)
			continue
		}
		p.result(m, fmt.Sprintf("OK: this gateway has joined as node %q. The token has been erased from %s.", node, FileName))
	}
}

func read(m Medium) (text []byte, err error) {
	err = m.Look(func(dir string) error {
		f, err := os.Open(filepath.Join(dir, FileName))
		if err != nil {
			return err
		}
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
		return err
	})
	return text, err
}

// eraseToken overwrites the token in place. A FAT then changes in one sector of data, and a power cut leaves the file as it was or erased.
func eraseToken(m Medium, token string) error {
	return m.Use(func(dir string) error {
		path := filepath.Join(dir, FileName)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		erased, ok := erase(text, token)
		if !ok {
			return errors.New("it stands there in an unusual form")
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(erased, 0)
		return errors.Join(err, f.Sync(), f.Close())
	})
}

// result leaves a note for the technician, who reads it on a PC.
func (p *provisioner) result(m Medium, text string) {
	text = time.Now().UTC().Format(time.RFC3339) + " " + text + "\n"
	if err := m.Use(func(dir string) error {
		return replace(filepath.Join(dir, ResultName), strings.ReplaceAll(text, "\n", "\r\n"), 0o644)
	}); err != nil {
		p.Log.Warn("the result cannot be written", "medium", m.Name(), "error", err)
	}
}

// replace writes a file so that it is there whole or as it was before.
func replace(path, text string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
