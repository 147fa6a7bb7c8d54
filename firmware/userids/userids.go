package userids

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Block is how many ids a pod gets: all that a 16-bit id can name, as from a kubelet. Blocks begin at multiples of it.
const Block = 1 << 16

// kubelet is the user whose ids are for pods (https://kubernetes.io/docs/concepts/workloads/pods/user-namespaces/, "Set up a node").
const kubelet = "kubelet"

// maxFile is the size in bytes that a file of subordinate ids may have.
const maxFile = 1 << 20

// Range is Count ids from First on.
type Range struct{ First, Count uint32 }

func (r Range) end() uint64 { return uint64(r.First) + uint64(r.Count) }

func (r Range) overlaps(o Range) bool {
	return uint64(r.First) < o.end() && uint64(o.First) < r.end()
}

// Check says what is wrong with a range that is to be divided into blocks; nil if nothing is.
func (r Range) Check() error {
	switch {
	case r.First < Block || r.First%Block != 0:
		return fmt.Errorf("the first id is %d: it has to be a multiple of %d, and not 0, because 0 is the machine's own root", r.First, Block)
	case r.Count == 0 || r.Count%Block != 0:
		return fmt.Errorf("%d ids: it has to be a multiple of %d, one for each pod", r.Count, Block)
	case r.end() > 1<<32-1:
		return fmt.Errorf("%d ids from %d on go beyond the last id of the machine", r.Count, r.First)
	}
	return nil
}

// Space is the ids that pods may have.
type Space struct {
	Own    Range   // where they are from
	Others []Range // what of it belongs to others
}

// Default returns the ids of user kubelet, if the files subuid and subgid in the folder etc give it some, as a kubelet has it; else all from
// 65536 on but for those that the files give to other users.
func Default(etc string) (Space, error) {
	all := Space{Own: Range{Block, 1<<32 - 2*Block}} // not the last block: its last id is no id
	var own [2][]Range
	for i, name := range []string{"subuid", "subgid"} {
		path := filepath.Join(etc, name)
		text, err := readSome(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Space{}, fmt.Errorf("ids for pods: %w", err)
		}
		entries, err := parse(text)
		if err != nil {
			return Space{}, fmt.Errorf("ids for pods: %s: %w", path, err)
		}
		for _, e := range entries {
			if e.user == kubelet {
				own[i] = append(own[i], e.ids)
			} else {
				all.Others = append(all.Others, e.ids)
			}
		}
	}
	if len(own[0])+len(own[1]) == 0 {
		return all, nil
	}
	if len(own[0]) != 1 || !slices.Equal(own[0], own[1]) {
		return Space{}, fmt.Errorf("ids for pods: %s and %s have to give user %s one and the same range", filepath.Join(etc, "subuid"), filepath.Join(etc, "subgid"), kubelet)
	}
	if err := own[0][0].Check(); err != nil {
		return Space{}, fmt.Errorf("ids for pods: %s of user %s: %w", filepath.Join(etc, "subuid"), kubelet, err)
	}
	return Space{Own: own[0][0]}, nil
}

// Free returns the first id of the first block that is not taken; false if there is none.
func (s Space) Free(taken func(first uint32) bool) (uint32, bool) {
	for at := uint64(s.Own.First); at+Block <= s.Own.end(); at += Block {
		block := Range{uint32(at), Block} //nolint:gosec // not beyond the end of a range of 32 bits
		if !taken(block.First) && !slices.ContainsFunc(s.Others, block.overlaps) {
			return block.First, true
		}
	}
	return 0, false
}

func (s Space) String() string {
	return fmt.Sprintf("%d ids from %d on", s.Own.Count, s.Own.First)
}

func readSome(path string) ([]byte, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

type entry struct {
	user string
	ids  Range
}

// parse reads subuid(5) or subgid(5): lines of USER:FIRST:COUNT.
func parse(text []byte) (out []entry, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, ":")
		if len(parts) != 3 {
			return nil, fmt.Errorf("line %d is not USER:FIRST:COUNT", n)
		}
		first, err := strconv.ParseUint(parts[1], 10, 32)
		count, err2 := strconv.ParseUint(parts[2], 10, 32)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, entry{parts[0], Range{uint32(first), uint32(count)}})
	}
	return out, lines.Err()
}
