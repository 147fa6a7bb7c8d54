package pointlist

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// row is one line of a table.
type row struct {
	line  int
	cells []string
}

// filled is how many cells have something in them.
func (x row) filled() (n int) {
	for _, c := range x.cells {
		if c != "" {
			n++
		}
	}
	return n
}

const (
	headerWithin = 30 // lines: what is before the header is a title
	maxRows      = 20000
)

// readTable reads CSV with whatever separates its columns.
func readTable(text []byte, o Options) (*List, error) {
	var best *table
	var problems error
	for _, comma := range []rune{';', ',', '\t', '|'} {
		t, err := parseTable(text, comma, o)
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		if best == nil || t.score > best.score {
			best = t
		}
	}
	switch {
	case best == nil:
		return nil, fmt.Errorf("this is not a table: %w", problems)
	case best.score == 0:
		return nil, fmt.Errorf("no line within the first %d is a header with a name and an address; headers that are understood: name, address, type … in the usual spellings; others are given with --map name=COLUMN --map address=COLUMN", headerWithin)
	}
	return best.list(o)
}

// table is a text read with one separator.
type table struct {
	comma   rune
	rows    []row // below the header
	header  row
	columns map[string]int
	refused []Refusal
	score   int // columns that are understood; 0: there is no header
}

func parseTable(text []byte, comma rune, o Options) (*table, error) {
	t := &table{comma: comma}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma, r.FieldsPerRecord, r.LazyQuotes, r.TrimLeadingSpace, r.ReuseRecord = comma, -1, true, comma != '\t', true
	for n := 0; ; n++ {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		switch {
		case n > maxRows:
			return nil, fmt.Errorf("line %d: there are more than %d lines", line, maxRows)
		case len(cells) > maxFields:
			return nil, fmt.Errorf("line %d: there are more than %d columns", line, maxFields)
		}
		long := false
		kept := make([]string, len(cells))
		for i, c := range cells {
			long = long || len(c) > maxText
			kept[i] = strings.TrimSpace(c)
		}
		x := row{line, kept}
		switch {
		case strings.Join(kept, "") == "":
		case long:
			t.refused = append(t.refused, Refusal{Line: line, Reason: fmt.Sprintf("a cell is longer than %d bytes", maxText)})
		case t.score > 0:
			t.rows = append(t.rows, x)
		case n < headerWithin:
			t.try(x, o)
		default:
			return t, nil
		}
	}
}

// try takes a row for the header if it names what a list has to have.
func (t *table) try(x row, o Options) {
	columns := map[string]int{}
	for i, h := range x.cells {
		if c := columnOf(h); c != "" {
			if _, taken := columns[c]; !taken {
				columns[c] = i
			}
		}
	}
	for c, want := range o.Columns {
		at := -1
		for i, h := range x.cells {
			if strings.EqualFold(h, want) || squeeze(h) == squeeze(want) && squeeze(h) != "" {
				at = i
				break
			}
		}
		if n, err := strconv.Atoi(want); at < 0 && err == nil && n >= 1 && n <= len(x.cells) {
			at = n - 1
		}
		if at < 0 {
			return
		}
		for other, i := range columns {
			if i == at {
				delete(columns, other)
			}
		}
		columns[c] = at
	}
	_, name := columns["name"]
	if _, ok := columns["description"]; !name && ok { // many lists have only that
		columns["name"] = columns["description"]
		name = true
	}
	if _, address := columns["address"]; name && address {
		t.header, t.columns, t.score = x, columns, len(columns)
	}
}

// cell returns what a row has in a column; empty if there is none.
func (t *table) cell(x row, column string) string {
	if i, ok := t.columns[column]; ok && i < len(x.cells) {
		return x.cells[i]
	}
	return ""
}

// list makes points of the rows.
func (t *table) list(o Options) (*List, error) {
	l := &List{Protocol: "modbus", Refused: t.refused}
	c := &converter{options: o, list: l, comma: t.comma == ';' || t.comma == '\t', seen: map[string]int{}}
	var cells []cellSet
	for _, x := range t.rows {
		s := cellSet{line: x.line, get: func(column string) string { return t.cell(x, column) }}
		if s.get("name") == "" && s.get("address") == "" {
			continue
		}
		if s.get("address") == "" && x.filled() == 1 {
			continue // a heading between groups
		}
		cells = append(cells, s)
	}
	if len(cells) > maxPoints {
		return nil, fmt.Errorf("there are %d points, and a Device has at most %d: split the list", len(cells), maxPoints)
	}
	c.decideAddressing(cells)
	for _, s := range cells {
		c.point(s)
	}
	var used []string
	for _, column := range Columns() {
		if i, ok := t.columns[column]; ok && i < len(t.header.cells) {
			used = append(used, fmt.Sprintf("%s=%q", column, clip(t.header.cells[i])))
		}
	}
	l.Notes = append([]string{fmt.Sprintf("columns (header in line %d): %s", t.header.line, strings.Join(used, ", "))}, l.Notes...)
	return l, nil
}
