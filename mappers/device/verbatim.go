package device

import "fmt"

// Verbatim reads a string with the blanks and control characters at its ends, which mean something on a serial line.
func (f *Fields) Verbatim(def string, names ...string) string {
	name, v, ok := f.lookup(names...)
	if !ok {
		return def
	}
	s, ok := plainText(v)
	if !ok {
		f.Fail(name, v, "is not a string", "a string")
		return def
	}
	return s
}

// Verbatims reads a list of at most limit strings; a single string is a list of one.
func (f *Fields) Verbatims(limit int, names ...string) []string {
	name, v, ok := f.lookup(names...)
	if !ok {
		return nil
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	if len(list) > limit {
		f.Fail(name, fmt.Sprintf("%d entries", len(list)), "is too long", fmt.Sprintf("a list of at most %d strings", limit))
		return nil
	}
	out := make([]string, 0, len(list))
	for _, e := range list {
		s, ok := plainText(e)
		if !ok {
			f.Fail(name, e, "is not a string", "a string, or a list of strings")
			return nil
		}
		out = append(out, s)
	}
	return out
}

// plainText is a scalar as it is written.
func plainText(v any) (string, bool) {
	switch s := v.(type) {
	case string:
		return s, true
	case nil, map[string]any, []any, []byte:
		return "", false
	default:
		return fmt.Sprint(s), true
	}
}
