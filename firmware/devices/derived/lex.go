package derived

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of one expression. They bound the work of an evaluation and the depth of its recursion.
const (
	maxText  = 2048 // bytes
	maxNodes = 512
	maxDepth = 64
)

type kind uint8

const (
	tokEnd kind = iota
	tokName
	tokQuoted // `a name in backquotes`
	tokText
	tokInt
	tokFloat
	tokOp
)

type token struct {
	kind kind
	pos  int // byte offset
	text string
	i    int64
	f    float64
}

func (t token) String() string {
	switch t.kind {
	case tokEnd:
		return "the end"
	case tokText:
		return "the text " + strconv.Quote(clip(t.text))
	default:
		return strconv.Quote(clip(t.text))
	}
}

// operators, the longer ones first.
var operators = [...]string{"&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "**", "+", "-", "*", "/", "%", "&", "|", "~", "^", "<", ">", "=", "!", "(", ")", ",", "?", ":"}

// lex cuts an expression into tokens; the last one is tokEnd.
func lex(src string) ([]token, error) {
	if len(src) > maxText {
		return nil, &Error{Pos: 1, Problem: fmt.Sprintf("the expression has %d bytes", len(src)), Allowed: fmt.Sprintf("up to %d; a part of it can be a property of its own", maxText)}
	}
	var out []token
	for at := 0; ; {
		for at < len(src) && strings.IndexByte(" \t\r\n", src[at]) >= 0 {
			at++
		}
		if at == len(src) {
			return append(out, token{kind: tokEnd, pos: at}), nil
		}
		t, n, problem, allowed := next(src[at:])
		if problem != "" {
			return nil, &Error{Pos: column(src, at), Problem: problem, Allowed: allowed}
		}
		t.pos = at
		at += n
		out = append(out, t)
	}
}

// next reads the token that src begins with.
func next(src string) (t token, n int, problem, allowed string) {
	switch c := src[0]; {
	case c >= '0' && c <= '9' || c == '.' && len(src) > 1 && src[1] >= '0' && src[1] <= '9':
		return number(src)
	case c == '"' || c == '\'' || c == '`':
		end := strings.IndexByte(src[1:], c)
		if end < 0 {
			return t, 0, fmt.Sprintf("the quote %c is not closed", c), ""
		}
		t = token{kind: tokText, text: src[1 : 1+end]}
		if c == '`' {
			t.kind = tokQuoted
		}
		return t, end + 2, "", ""
	}
	if n = nameLength(src); n > 0 {
		return token{kind: tokName, text: src[:n]}, n, "", ""
	}
	for _, op := range operators {
		if strings.HasPrefix(src, op) {
			return token{kind: tokOp, text: op}, len(op), "", ""
		}
	}
	r, _ := utf8.DecodeRuneInString(src)
	return t, 0, fmt.Sprintf("the character %q means nothing here", r), "a name with other characters than letters, digits and _ is written in backquotes: `flow-rate`"
}

// nameLength returns how many bytes of a name src begins with: letters of any alphabet, digits and _, not a digit first.
func nameLength(src string) int {
	for i, r := range src {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf && r != utf8.RuneError
		if !letter && (i == 0 || r < '0' || r > '9') {
			return i
		}
	}
	return len(src)
}

// number reads 12, 0x1F, 0b101, 1.5, 1e-3.
func number(src string) (t token, n int, problem, allowed string) {
	const ways = "12, 0x1F, 0b101, 1.5, 1e-3"
	for n < len(src) {
		c := src[n] | 0x20
		sign := (src[n] == '+' || src[n] == '-') && src[n-1]|0x20 == 'e' && (len(src) < 2 || src[1]|0x20 != 'x')
		if !sign && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || src[n] == '.' || src[n] == '_') {
			break
		}
		n++
	}
	text := strings.ToLower(src[:n])
	base := 10
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0b") {
		base = 0
	}
	if i, err := strconv.ParseInt(text, base, 64); err == nil { // "010" is ten, as a technician means it
		return token{kind: tokInt, text: src[:n], i: i}, n, "", ""
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || base == 0 || math.IsInf(f, 0) {
		return t, 0, fmt.Sprintf("%q is not a number", clip(src[:n])), ways
	}
	return token{kind: tokFloat, text: src[:n], f: f}, n, "", ""
}

// column is the character at a byte offset, counted from 1 as editors do.
func column(src string, offset int) int { return utf8.RuneCountInString(src[:offset]) + 1 }

// clip bounds what is repeated from a manifest.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
