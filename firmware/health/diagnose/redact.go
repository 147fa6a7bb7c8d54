package diagnose

import (
	"bytes"
	"regexp"
)

// redactor blacks out what looks like a secret, wherever it may have come from: nothing in a bundle is meant to hold one. It is made once for a bundle.
type redactor struct {
	key   *regexp.Regexp
	rules []redaction
}

// redaction is a rule for lines that have one of its marks, in lower case: looking for those is cheap, and most lines have none.
type redaction struct {
	marks []string
	what  *regexp.Regexp
	by    string
}

func newRedactor() *redactor {
	return &redactor{
		key: regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`),
		rules: []redaction{
			{[]string{"://"}, regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@"']*):[^/\s@"']+@`), "${1}:REDACTED@"},           // a proxy's or broker's password
			{[]string{"eyj"}, regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+`), "REDACTED TOKEN"},       // a JWT: a ServiceAccount's token
			{[]string{"skt1."}, regexp.MustCompile(`skt1\.[A-Za-z0-9_-]{16,}`), "REDACTED JOIN TOKEN"},                               // join.Token
			{[]string{"bearer ", "basic "}, regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}`), "${1}REDACTED"}, // a header
			{ // a setting
				[]string{"password", "passwd", "secret", "token", "apikey", "api_key", "privatekey"},
				regexp.MustCompile(`(?i)((?:password|passwd|secret|token|apikey|api_key|privatekey)["']?\s*[:=]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,}"']+)`), "${1}REDACTED",
			},
		},
	}
}

// redact returns text without what looks like a secret.
func (r *redactor) redact(text []byte) []byte {
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		text = r.key.ReplaceAll(text, []byte("REDACTED PRIVATE KEY"))
	}
	var out []byte // nil: all lines are as they were
	at := 0
	for line := range bytes.Lines(text) {
		clean := r.line(line)
		if clean != nil && out == nil {
			out = append(make([]byte, 0, len(text)+64), text[:at]...)
		}
		at += len(line)
		switch {
		case clean != nil:
			out = append(out, clean...)
		case out != nil:
			out = append(out, line...)
		}
	}
	if out == nil {
		return text
	}
	return out
}

// line returns a line without secrets, nil if it has none.
func (r *redactor) line(line []byte) (clean []byte) {
	lower := bytes.ToLower(line)
	for _, rule := range r.rules {
		for _, mark := range rule.marks {
			if bytes.Contains(lower, []byte(mark)) {
				line = rule.what.ReplaceAll(line, []byte(rule.by))
				clean = line
				break
			}
		}
	}
	return clean
}
