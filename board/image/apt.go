package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// apt is Debian's package tool with a state of its own, for another architecture, without touching this machine's.
type apt struct {
	dir    string // state, lists and cached packages
	arch   string // armhf, arm64
	suite  string
	mirror string // empty: this machine's own Debian source
}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

func (a *apt) options() []string {
	opts := []string{"-q"}
	for _, o := range []string{
		"Dir::State=" + a.dir + "/state", "Dir::State::status=" + a.dir + "/state/status", "Dir::Cache=" + a.dir + "/cache", "Dir::Etc::sourcelist=" + a.dir + "/sources.list",
		"Dir::Etc::sourceparts=" + a.dir + "/parts", "Dir::Etc::preferencesparts=" + a.dir + "/parts", "APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch,
		"Acquire::Languages=none", "APT::Sandbox::User=root", "APT::Install-Recommends=false", "Debug::NoLocking=1",
	} {
		opts = append(opts, "-o", o)
	}
	return opts
}

// update fetches the lists of packages.
func (a *apt) update(ctx context.Context) error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "parts"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	if a.mirror == "" {
		out, err := run(ctx, "", "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 3 && f[1] == a.suite && f[2] == "main" {
				a.mirror = f[0]
				break
			}
		}
		if a.mirror == "" {
			return fmt.Errorf("this machine has no Debian source for %s/main in its apt configuration: add one, or give MIRROR=", a.suite)
		}
	}
	source := fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s main\n", a.arch, keyring, a.mirror, a.suite)
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(source), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(a.dir, "state/status"), nil, 0o644); err != nil {
		return err
	}
	_, err := run(ctx, "", "apt-get", append(a.options(), "update")...)
	return err
}

// resolve returns the packages that these need, with themselves, without those that left out.
func (a *apt) resolve(ctx context.Context, want []string, out func(name string) bool) ([]Package, error) {
	args := append(a.options(), "-y", "--print-uris", "-o", "Acquire::ForceHash=SHA256", "install")
	text, err := run(ctx, "", "apt-get", append(args, want...)...)
	if err != nil {
		return nil, err
	}
	var list []Package
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "'") {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(f[1], ".deb"), "_")
		if len(parts) != 3 {
			return nil, fmt.Errorf("apt-get names a package %q, which is no NAME_VERSION_ARCHITECTURE.deb", f[1])
		}
		p := Package{Name: parts[0], Version: strings.ReplaceAll(parts[1], "%3a", ":"), Arch: parts[2], SHA256: strings.TrimPrefix(f[3], "SHA256:")}
		if !hexHash.MatchString(p.SHA256) {
			return nil, fmt.Errorf("apt-get gives no SHA-256 of %s: %q", p.Name, f[3])
		}
		if !out(p.Name) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("apt-get found no packages for %s", strings.Join(want, " "))
	}
	return list, nil
}

// fetch makes sure that all packages are in dir with their hashes, and returns the names of the files in the order of the list.
func (a *apt) fetch(ctx context.Context, dir string, list []Package) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var files, missing []string
	for _, p := range list {
		file := filepath.Join(dir, p.File())
		files = append(files, file)
		if sum, err := hashFile(file); err != nil || sum != p.SHA256 {
			missing = append(missing, p.Name+"="+p.Version)
		}
	}
	if len(missing) > 0 {
		if err := a.update(ctx); err != nil {
			return nil, err
		}
		if _, err := run(ctx, dir, "apt-get", append(append(a.options(), "download"), missing...)...); err != nil {
			return nil, fmt.Errorf("%w\nA version that a mirror no longer has can be had from an archive of it: MIRROR=URI", err)
		}
	}
	for i, p := range list {
		sum, err := hashFile(files[i])
		if err != nil {
			return nil, err
		}
		if sum != p.SHA256 {
			return nil, fmt.Errorf("%s has the hash %s, and the lock file says %s", p.File(), sum, p.SHA256)
		}
	}
	return files, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// run runs a tool and returns what it printed; an error holds the end of what it complained about.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	return runWith(ctx, dir, nil, nil, name, args...)
}

func runWith(ctx context.Context, dir string, env []string, stdin io.Reader, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "TZ=UTC", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin"), env...)
	if path, err := exec.LookPath(name); err != nil {
		for _, d := range []string{"/usr/sbin/", "/sbin/"} {
			if _, err := os.Stat(d + name); err == nil {
				cmd.Path, cmd.Err = d+name, nil
			}
		}
	} else {
		cmd.Path = path
	}
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &complaint
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(complaint.String())
		if len(said) > 2000 {
			said = "…" + said[len(said)-2000:]
		}
		return out.String(), fmt.Errorf("%s: %w: %s", name, err, said)
	}
	return out.String(), nil
}
