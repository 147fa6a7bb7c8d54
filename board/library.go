package board

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/skerry/skerry/board/strict"
)

//go:embed boards/*.yaml
var builtIn embed.FS

// DefaultDir is where files of boards are looked for on the device.
const DefaultDir = "/etc/skerry/board.d"

const suffix = ".yaml"

// Library is all boards that are known here: those that are compiled in, and those in a folder on the device, which go before. A file of
// the folder takes the place of the built-in board of its name; with `extends:` it changes single keys of it.
type Library struct {
	// Dir need not exist. Empty: only the built-in boards.
	Dir string
}

// ErrUnknown is the error of a name that no board has.
var ErrUnknown = errors.New("there is no such board")

// Load reads the board of a name.
func (l Library) Load(name string) (*Descriptor, error) { return l.load(name, nil) }

// load reads a board; chain holds the files that build on it.
func (l Library) load(name string, chain []string) (*Descriptor, error) {
	text, source, err := l.read(name, chain)
	if err != nil {
		return nil, err
	}
	file := source
	if source == BuiltIn {
		file = name + suffix + " (built in)"
	}
	r := newReader(file)
	var top Descriptor
	if err := r.Decode(text, &top); err != nil {
		return nil, err
	}
	d := &top
	if top.Extends != "" {
		base, err := l.load(top.Extends, append(chain, source))
		if errors.Is(err, ErrUnknown) {
			r.Fail("extends", top.Extends, err.Error())
			return nil, r.Err()
		} else if err != nil {
			return nil, fmt.Errorf("%s extends %s: %w", file, top.Extends, err)
		}
		if base.Name != name { // by what another board is recognised is no sign of this one
			base.Match = Match{}
		}
		base.Name, base.Title = name, cmp.Or(top.Title, base.Title)
		if err := r.Decode(text, base); err != nil {
			return nil, err
		}
		d = base
	}
	if d.Name == "" {
		d.Name = name
	} else if d.Name != name {
		r.Fail("name", d.Name, "the file is called "+name+suffix+": both must be the same")
	}
	if err := r.check(d); err != nil {
		return nil, err
	}
	d.Source = source
	return d, nil
}

// read finds the text of a board. A file that builds on the board of its own name means the built-in one.
func (l Library) read(name string, chain []string) (text []byte, source string, err error) {
	if len(chain) > maxChain {
		return nil, "", fmt.Errorf("board %q: more than %d files extend one another: %s", name, maxChain, strings.Join(chain, ", "))
	}
	if !boardName.MatchString(name) {
		return nil, "", fmt.Errorf("board %q: %w: a name has lower-case letters, digits and '-'", name, ErrUnknown)
	}
	again := false
	if l.Dir != "" {
		file := filepath.Join(l.Dir, name+suffix)
		if again = slices.Contains(chain, file); !again {
			text, err := readFile(file)
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return text, file, err
			}
		}
	}
	text, err = builtIn.ReadFile("boards/" + name + suffix)
	switch {
	case err != nil && again:
		return nil, "", fmt.Errorf("board %q: files extend one another in a circle: %s", name, strings.Join(chain, ", "))
	case err != nil:
		return nil, "", l.unknown(name)
	}
	return text, BuiltIn, nil
}

func (l Library) unknown(name string) error {
	known, hint := l.Names(), ""
	if near := strict.Nearest(name, known); near != "" {
		hint = "did you mean " + near + "? "
	}
	return fmt.Errorf("board %q: %w; %sknown are %s", name, ErrUnknown, hint, strings.Join(known, ", "))
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // a file of the operator's own folder
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, strict.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return text, nil
}

// Names lists all boards, in the order of their names.
func (l Library) Names() []string {
	var out []string
	add := func(entries []fs.DirEntry) {
		for _, e := range entries {
			if name, ok := strings.CutSuffix(path.Base(e.Name()), suffix); ok && boardName.MatchString(name) {
				out = append(out, name)
			}
		}
	}
	if own, err := builtIn.ReadDir("boards"); err == nil {
		add(own)
	}
	if l.Dir != "" {
		if theirs, err := os.ReadDir(l.Dir); err == nil { // a folder that is not there, or not ours to read, holds no board
			add(theirs)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Choice is the board that this machine is taken for, and why.
type Choice struct {
	*Descriptor
	// Why says how it was chosen, for logs and people.
	Why string
	// Skipped are files of boards that could not be read; others were chosen from.
	Skipped []error
}

// Choose finds the board of a machine: the one that is named, else the one whose match fits best, else generic for the architecture of
// this program. A name that cannot be followed is an error; files that cannot be read are not, unless they are named.
func (l Library) Choose(name string, id Identity) (Choice, error) {
	if name != "" {
		d, err := l.Load(name)
		if err == nil && !slices.Contains(d.Architectures, id.Architecture) {
			err = fmt.Errorf("board %s is for %s, and this program for %s: choose another board, or install the program for it",
				name, strings.Join(d.Architectures, " and "), id.Architecture)
		}
		if err != nil {
			return Choice{}, err
		}
		return Choice{Descriptor: d, Why: "named in the configuration"}, nil
	}
	best, rank := Choice{}, matchRank{}
	var skipped []error
	for _, n := range l.Names() {
		d, err := l.Load(n)
		if err != nil {
			skipped = append(skipped, err)
			if d, err = (Library{}).Load(n); err != nil { // the built-in one of this name is better than none
				continue
			}
		}
		if !slices.Contains(d.Architectures, id.Architecture) {
			continue
		}
		if found := id.rank(d); found.why != "" && (rank.why == "" || found.before(rank)) {
			best, rank = Choice{Descriptor: d, Why: "recognised by " + found.why}, found
		}
	}
	if rank.why == "" {
		d, err := l.Load("generic-" + genericArch(id.Architecture))
		if err != nil {
			return Choice{}, errors.Join(append(skipped, err)...)
		}
		best = Choice{Descriptor: d, Why: "no board fits " + id.String()}
	}
	best.Skipped = skipped
	return best, nil
}

func genericArch(arch string) string {
	if arch == "arm" {
		return "armv7"
	}
	return arch
}

// Identity is by what a machine is recognised.
type Identity struct {
	Architecture string   // of this program, in Go's spelling
	Compatible   []string // of the device tree's root, the most specific first
	Vendor       string   // DMI
	Product      string
}

// Identify reads this machine's identity below root, which is "/" but in tests.
func Identify(root string) Identity {
	id := Identity{
		Architecture: runtime.GOARCH,
		Vendor:       first(root, "sys/class/dmi/id/sys_vendor"), Product: first(root, "sys/class/dmi/id/product_name"),
	}
	if text := first(root, "proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible"); text != "" {
		id.Compatible = strings.Split(text, "\x00")
	}
	return id
}

// String says who the machine says that it is.
func (id Identity) String() string {
	switch {
	case len(id.Compatible) > 0:
		return "the device tree's " + strings.Join(id.Compatible, ", ")
	case id.Vendor != "" || id.Product != "":
		return fmt.Sprintf("DMI's %q %q", id.Vendor, id.Product)
	}
	return "a machine without device tree and DMI"
}

// matchRank orders boards that fit: by the place of the string in the machine's list, then exact ones, then those on the device.
type matchRank struct {
	place int
	loose bool
	built bool
	why   string
}

func (m matchRank) before(o matchRank) bool {
	order := func(m matchRank) []int { return []int{m.place, asInt(m.loose), asInt(m.built)} }
	return slices.Compare(order(m), order(o)) < 0
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// rank says how well a board fits; why is empty if it does not.
func (id Identity) rank(d *Descriptor) matchRank {
	best := matchRank{}
	better := func(m matchRank) {
		if m.built = d.Source == BuiltIn; best.why == "" || m.before(best) {
			best = m
		}
	}
	for place, have := range id.Compatible {
		for _, want := range d.Match.DeviceTree {
			if fits(want, have) {
				better(matchRank{place: place, loose: want != have, why: "the device tree's " + have})
			}
		}
	}
	for _, want := range d.Match.DMI {
		if fits(want.Vendor, id.Vendor) && fits(want.Product, id.Product) {
			better(matchRank{loose: want != DMI{id.Vendor, id.Product}, why: fmt.Sprintf("DMI's %q %q", id.Vendor, id.Product)})
		}
	}
	return best
}

func fits(pattern, text string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return text != "" && strings.HasPrefix(text, prefix)
	}
	return text != "" && pattern == text
}

// Fits says by what a machine is recognised as this board; empty if it is not.
func (d *Descriptor) Fits(id Identity) string { return id.rank(d).why }
