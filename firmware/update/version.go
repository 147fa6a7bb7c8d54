package update

import "strings"

// compareVersions compares as Debian does (deb-version(7), upstream part): runs of digits as numbers, the rest by letters before other signs, and a tilde before
// everything, the end included: 1.9 < 1.10, 1.2~rc1 < 1.2 < 1.2-3-gabc.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a = text(a)
		y, b = text(b)
		if c := compareText(x, y); c != 0 {
			return c
		}
		x, a = number(a)
		y, b = number(b)
		if len(x) != len(y) {
			return sign(len(x) - len(y))
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

func text(s string) (head, rest string) {
	if i := strings.IndexFunc(s, isDigit); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

func number(s string) (head, rest string) {
	rest = strings.TrimLeftFunc(s, isDigit)
	return strings.TrimLeft(s[:len(s)-len(rest)], "0"), rest
}

func compareText(a, b string) int {
	weight := func(s string, i int) int {
		switch {
		case i >= len(s):
			return 0
		case s[i] == '~':
			return -1
		case s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z':
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	for i := range max(len(a), len(b)) {
		if d := weight(a, i) - weight(b, i); d != 0 {
			return sign(d)
		}
	}
	return 0
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
