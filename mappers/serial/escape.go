package serial

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// unescape reads a sequence of bytes as manifests write it: "hex: 02 0d" in hexadecimal, anything else as text, in which \r \n \t \0
// \e \\ and \xNN stand for bytes. Manifests in double quotes and in none both work, because YAML leaves either the byte or the escape.
func unescape(s string) ([]byte, error) {
	if digits, ok := strings.CutPrefix(s, "hex:"); ok {
		b, err := hex.DecodeString(strings.Map(dropBlank, digits))
		if err != nil {
			return nil, errors.New("is not hexadecimal: two digits for each byte")
		}
		return b, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		if i == len(s) {
			return nil, errors.New("ends within an escape")
		}
		if s[i] == 'x' {
			if i+3 > len(s) {
				return nil, errors.New("has \\x without two hexadecimal digits")
			}
			b, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return nil, errors.New("has \\x without two hexadecimal digits")
			}
			out = append(out, b[0])
			i += 2
			continue
		}
		n := strings.IndexByte(`rntve0\{"`, s[i])
		if n < 0 {
			return nil, fmt.Errorf("has an unknown escape \\%c", s[i])
		}
		out = append(out, "\r\n\t\v\x1b\x00\\{\""[n])
	}
	return out, nil
}

func dropBlank(r rune) rune {
	switch r {
	case ' ', '\t', '\n', ',', '-':
		return -1
	}
	return r
}

// visible shows bytes of a device in a message: what can be read as text, the rest as escapes, not too much of it.
func visible(b []byte) string {
	const most = 60
	rest := ""
	if len(b) > most {
		b, rest = b[:most], "…"
	}
	return fmt.Sprintf("%+q", b) + rest
}
