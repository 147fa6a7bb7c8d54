package bootenv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// Slot is one of the two systems.
type Slot string

// The two slots. Images of all boards call them so, and so does the script.
const (
	A Slot = "A"
	B Slot = "B"
)

// Other returns the other slot.
func (s Slot) Other() Slot {
	if s == A {
		return B
	}
	return A
}

// ParseSlot returns the slot with a name.
func ParseSlot(name string) (Slot, error) {
	if s := Slot(name); s == A || s == B {
		return s, nil
	}
	return "", fmt.Errorf("there is no slot %q: allowed are A and B", name)
}

const (
	// Size of a copy in bytes, and of the partition that holds it.
	Size = 64 << 10
	// Tries that a slot has: how many times it is booted without being confirmed before the other one is.
	Tries = 3
	// maxSeq keeps numbers in what U-Boot's test compares on 32-bit machines: signed.
	maxSeq = 1<<31 - 1
	header = 4 // of a copy: its CRC
)

// ErrDamaged is wrapped by errors of Parse: the block holds no boot environment, or not a whole one.
var ErrDamaged = errors.New("damaged")

// Env is the boot environment. The zero value boots nothing; begin with Default.
type Env struct {
	Seq       uint32       // counts writes
	Order     [2]Slot      // which slot is booted first
	Left      map[Slot]int // boots that a slot has left until it is confirmed again; 0: it is given up
	Confirmed Slot         // the slot that was last found healthy; empty: none yet
	Resort    int          // boots, since a slot was last confirmed, in which no slot had tries left
}

// Default is what a disk without an environment means, and what a new one is made with: A, then B.
func Default() Env {
	return Env{Order: [2]Slot{A, B}, Left: map[Slot]int{A: Tries, B: Tries}}
}

// The variables, as U-Boot's script spells them. BOOT_* are those that RAUC's own U-Boot back end uses.
const (
	varSeq       = "SKERRY_SEQ"
	varConfirmed = "SKERRY_CONFIRMED"
	varResort    = "SKERRY_RESORT"
	varOrder     = "BOOT_ORDER"
)

func varLeft(s Slot) string { return "BOOT_" + string(s) + "_LEFT" }

// Parse reads one copy: the whole block, as long as the partition. Variables that it does not know are left out. Errors wrap ErrDamaged.
func Parse(block []byte) (Env, error) {
	if len(block) < header+2 || len(block) > 1<<20 {
		return Env{}, fmt.Errorf("%w: a copy of %d bytes", ErrDamaged, len(block))
	}
	data := block[header:]
	if sum := binary.LittleEndian.Uint32(block); sum != crc32.ChecksumIEEE(data) {
		return Env{}, fmt.Errorf("%w: the check sum is wrong", ErrDamaged)
	}
	vars, err := variables(data)
	if err != nil {
		return Env{}, err
	}
	return fromVariables(vars)
}

func variables(data []byte) (map[string]string, error) {
	vars := map[string]string{}
	for n := 0; len(data) > 0 && data[0] != 0; n++ {
		entry, rest, ended := bytes.Cut(data, []byte{0})
		name, value, assigned := strings.Cut(string(entry), "=")
		if !ended || !assigned || n >= 64 {
			return nil, fmt.Errorf("%w: not a list of variables", ErrDamaged)
		}
		vars[name] = value
		data = rest
	}
	return vars, nil
}

// fromVariables is as lenient as the script: what is missing has its default. What is there and makes no sense is damage.
func fromVariables(vars map[string]string) (Env, error) {
	e := Default()
	if text, ok := vars[varSeq]; ok {
		n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 32)
		if err != nil || n > maxSeq || !strings.HasPrefix(text, "0x") {
			return Env{}, fmt.Errorf("%w: %s=%q", ErrDamaged, varSeq, text)
		}
		e.Seq = uint32(n)
	}
	if text, ok := vars[varOrder]; ok {
		switch text {
		case "A B":
			e.Order = [2]Slot{A, B}
		case "B A":
			e.Order = [2]Slot{B, A}
		default:
			return Env{}, fmt.Errorf("%w: %s=%q", ErrDamaged, varOrder, text)
		}
	}
	if text := vars[varConfirmed]; text != "" {
		s, err := ParseSlot(text)
		if err != nil {
			return Env{}, fmt.Errorf("%w: %s=%q", ErrDamaged, varConfirmed, text)
		}
		e.Confirmed = s
	}
	for name, at := range map[string]func(int){varLeft(A): func(n int) { e.Left[A] = n }, varLeft(B): func(n int) { e.Left[B] = n }, varResort: func(n int) { e.Resort = n }} {
		text, ok := vars[name]
		if !ok {
			continue
		}
		if len(text) != 1 || text[0] < '0' || text[0] > '9' {
			return Env{}, fmt.Errorf("%w: %s=%q", ErrDamaged, name, text)
		}
		at(int(text[0] - '0'))
	}
	return e, nil
}

// Encode returns the copy with size bytes (Size, where the board says nothing else).
func (e Env) Encode(size int) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, v := range [][2]string{
		{varLeft(A), strconv.Itoa(e.Left[A])}, {varLeft(B), strconv.Itoa(e.Left[B])}, {varOrder, string(e.Order[0]) + " " + string(e.Order[1])},
		{varConfirmed, string(e.Confirmed)}, {varResort, strconv.Itoa(e.Resort)}, {varSeq, "0x" + strconv.FormatUint(uint64(e.Seq), 16)},
	} {
		if v[1] != "" {
			text.WriteString(v[0] + "=" + v[1] + "\x00")
		}
	}
	if size < header+text.Len()+1 {
		return nil, fmt.Errorf("a boot environment of %d bytes does not fit %d", header+text.Len()+1, size)
	}
	block := make([]byte, size)
	copy(block[header:], text.String())
	binary.LittleEndian.PutUint32(block, crc32.ChecksumIEEE(block[header:]))
	return block, nil
}

func (e Env) check() error {
	if e.Order != [2]Slot{A, B} && e.Order != [2]Slot{B, A} {
		return fmt.Errorf("boot order %v: allowed are A B and B A", e.Order)
	}
	if e.Confirmed != "" && e.Confirmed != A && e.Confirmed != B {
		return fmt.Errorf("confirmed slot %q: allowed are A and B", e.Confirmed)
	}
	for _, n := range []int{e.Left[A], e.Left[B], e.Resort} {
		if n < 0 || n > 9 {
			return fmt.Errorf("a count of %d: allowed are 0 to 9", n)
		}
	}
	if e.Seq > maxSeq {
		return fmt.Errorf("number %d: at most %d", e.Seq, maxSeq)
	}
	return nil
}

func (e Env) clone() Env {
	e.Left = map[Slot]int{A: e.Left[A], B: e.Left[B]}
	return e
}

// Equal says whether both have the same content, their numbers included.
func (e Env) Equal(o Env) bool {
	return e.Seq == o.Seq && e.Order == o.Order && e.Left[A] == o.Left[A] && e.Left[B] == o.Left[B] && e.Confirmed == o.Confirmed && e.Resort == o.Resort
}

// Primary returns the slot that boots next: the first one with tries left. ok is false if neither has: the last resort boots then.
func (e Env) Primary() (s Slot, ok bool) {
	i := slices.IndexFunc(e.Order[:], func(s Slot) bool { return e.Left[s] > 0 })
	if i < 0 {
		return "", false
	}
	return e.Order[i], true
}

// Good says whether a slot may be booted.
func (e Env) Good(s Slot) bool { return e.Left[s] > 0 }

// SetPrimary makes s the slot that is tried next.
func (e *Env) SetPrimary(s Slot) {
	e.Order = [2]Slot{s, s.Other()}
	e.Left[s] = Tries
}

// SetGood gives s its tries back, or takes them all.
func (e *Env) SetGood(s Slot, good bool) {
	e.Left[s] = 0
	if good {
		e.Left[s] = Tries
	}
}

// Confirm says that s runs and is healthy: it is booted from now on, with all its tries, until another one is made primary.
func (e *Env) Confirm(s Slot) {
	e.SetPrimary(s)
	e.Confirmed, e.Resort = s, 0
}

// Boot is what the script does at a boot: it returns the slot that is booted, and the environment that is written before. If no slot has tries left, none
// may be given up: the confirmed one is booted (A, if there is none), at the next such boot the other one, and so on in turn.
func (e Env) Boot() (Slot, Env) {
	next := e.clone()
	next.Seq++
	if s, ok := e.Primary(); ok {
		next.Left[s]--
		return s, next
	}
	s := e.Confirmed
	if s == "" {
		s = A
	}
	if e.Resort%2 == 1 {
		s = s.Other()
	}
	if next.Resort++; next.Resort > 9 { // one digit; the parity goes on
		next.Resort = 2
	}
	return s, next
}
