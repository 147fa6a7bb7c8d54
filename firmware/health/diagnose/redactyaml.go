package diagnose

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

const redacted = "REDACTED"

// yaml blacks out values by the keys that they stand under, in whatever section and however they are written: in several lines, in lists, in maps. Patterns see
// lines only; they are for the values, and for what is no YAML.
func (r *redactor) yaml(text []byte) []byte {
	var out bytes.Buffer
	dec, enc := yaml.NewDecoder(bytes.NewReader(text)), yaml.NewEncoder(&out)
	enc.SetIndent(2)
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			if enc.Close() != nil || out.Len() == 0 {
				return r.redact(text)
			}
			return out.Bytes()
		case err != nil:
			return r.redact(text)
		}
		r.node(&doc, "", "")
		if enc.Encode(&doc) != nil {
			return r.redact(text)
		}
	}
}

// node looks at a value and its key, and the key of the section that it is in.
func (r *redactor) node(n *yaml.Node, section, key string) {
	if secretKey(section, key) {
		blacken(n)
		return
	}
	n.HeadComment, n.LineComment, n.FootComment = "", "", "" // a setting that was taken out for a while
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			r.node(n.Content[i], "", "")
			r.node(n.Content[i+1], key, n.Content[i].Value)
		}
	case yaml.ScalarNode:
		if value := string(r.redact([]byte(withoutPassword(n.Value)))); value != n.Value {
			*n = yaml.Node{Kind: yaml.ScalarNode, Value: value}
		}
	default: // entries of a list are of the list's section
		for _, c := range n.Content {
			r.node(c, section, key)
		}
	}
}

// blacken replaces all that is in a value, and leaves what says nothing: emptiness and switches.
func blacken(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	if n.Kind == yaml.AliasNode || n.Kind == yaml.ScalarNode && n.Value != "" && n.Tag != "!!bool" && n.Tag != "!!null" {
		*n = yaml.Node{Kind: yaml.ScalarNode, Value: redacted}
		return
	}
	for i, c := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 {
			blacken(c)
		}
	}
}

// secretKey says whether a key's last word is one of those under which secrets stand. Keys of taints and tolerations are names.
func secretKey(section, key string) bool {
	words := wordsOf(key)
	if len(words) == 0 || section == "taints" || section == "tolerations" {
		return false
	}
	last := words[len(words)-1]
	return slices.ContainsFunc([]string{"password", "passwd", "passphrase", "pass", "secret", "token", "key", "apikey", "privatekey", "credential", "auth", "authorization", "bearer", "psk", "pin"}, func(word string) bool {
		return last == word || last == word+"s"
	})
}

// wordsOf splits a key at capitals and signs: apiKey, api_key, api-key, node.skerry.dev/api-key.
func wordsOf(key string) []string {
	var b strings.Builder
	before := ' '
	for _, r := range key {
		if unicode.IsUpper(r) && !unicode.IsUpper(before) {
			b.WriteByte(' ')
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			r = ' '
		}
		b.WriteRune(unicode.ToLower(r))
		before = r
	}
	return strings.Fields(b.String())
}

// withoutPassword blacks out the password of a URL, whatever signs are in it.
func withoutPassword(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	at := strings.LastIndexByte(rest, '@')
	if !ok || at < 0 {
		return text
	}
	user, _, ok := strings.Cut(rest[:at], ":")
	if !ok {
		return text
	}
	return scheme + "://" + user + ":" + redacted + rest[at:]
}
