package updates

import (
	"fmt"
	"io"
	"strings"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/gpt"
)

// boardName is the board that updates are tried on.
const boardName = "qemu-armv7"

// Area is a partition, in bytes of the disk; End is the first byte behind it.
type Area struct{ Start, End int64 }

// Size is its size in bytes.
func (a Area) Size() int64 { return a.End - a.Start }

// Touches says whether some of the bytes from at on lie in it.
func (a Area) Touches(at, length int64) bool { return at < a.End && at+length > a.Start }

// Partitions is where a gateway's disk has what a boot needs.
type Partitions struct {
	Table    Area // up to the first partition
	Firmware Area // the boot script
	Env      [2]Area
	Boot     map[bootenv.Slot]Area
	Root     map[bootenv.Slot]Area
	Data     Area
}

// Layout reads it from a disk.
func Layout(disk io.ReaderAt) (Partitions, error) {
	head := make([]byte, gpt.HeadSectors*gpt.Sector)
	if _, err := disk.ReadAt(head, 0); err != nil {
		return Partitions{}, fmt.Errorf("read the partition table: %w", err)
	}
	table, err := gpt.Parse(head)
	if err != nil {
		return Partitions{}, err
	}
	l := Partitions{Table: Area{0, int64(len(head))}, Boot: map[bootenv.Slot]Area{}, Root: map[bootenv.Slot]Area{}}
	found := map[string]Area{}
	for _, p := range table.Partitions {
		found[p.Name] = Area{int64(p.First) * gpt.Sector, int64(p.Last+1) * gpt.Sector} //nolint:gosec // Parse limits them
	}
	get := func(name string) (a Area) {
		a, ok := found[name]
		if !ok && err == nil {
			err = fmt.Errorf("the disk has no partition %s", name)
		}
		return a
	}
	l.Firmware, l.Data, l.Env = get("firmware"), get("data"), [2]Area{get("env-a"), get("env-b")}
	for _, s := range []bootenv.Slot{bootenv.A, bootenv.B} {
		l.Boot[s], l.Root[s] = get("boot-"+strings.ToLower(string(s))), get("root-"+strings.ToLower(string(s)))
	}
	return l, err
}
