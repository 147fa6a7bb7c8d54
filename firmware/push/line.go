package push

import (
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// Escapes of line protocol, as InfluxDB documents it: commas and blanks in measurements; also equal signs in tags and names of fields;
// quotes and backslashes in texts. A line break would end the line, and a backslash at the end of a name the separator behind it.
var (
	measurementEscape = strings.NewReplacer(",", `\,`, " ", `\ `, "\n", `\ `, "\r", `\ `)
	tagEscape         = strings.NewReplacer(",", `\,`, "=", `\=`, " ", `\ `, "\n", `\ `, "\r", `\ `)
	textEscape        = strings.NewReplacer(`"`, `\"`, `\`, `\\`)
)

func escapeTag(s string) string { return tagEscape.Replace(trimName(s)) }

func trimName(s string) string { return strings.TrimRight(s, `\`) }

// appendLine appends one point. A value that is not good has a second field, NAME_quality; without a datum it is the only one.
func appendLine(b []byte, it *item) []byte {
	name, field := it.opt.measurement, it.opt.fieldKey
	if name == "" {
		name = it.Device
	}
	if field == "" {
		field = it.Property
	}
	b = append(b, measurementEscape.Replace(trimName(name))...)
	if it.opt.tagged {
		b = append(b, it.opt.tags...)
	} else {
		b = append(b, ",device="+escapeTag(it.Device)+",namespace="+escapeTag(it.Namespace)...)
	}
	b = append(b, ' ')
	field = escapeTag(field)
	had := len(b)
	b = appendField(b, field, it.Value)
	if it.Value.Quality != device.Good {
		if len(b) > had {
			b = append(b, ',')
		}
		b = append(b, field+`_quality="`+it.Value.Quality.String()+`"`...)
	} else if len(b) == had { // nothing to say: it does not happen, and would be no line
		b = append(b, field+`_quality="bad"`...)
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, it.at().UnixNano(), 10)
	return append(b, '\n')
}

func appendField(b []byte, field string, v device.Value) []byte {
	switch v.Kind() {
	case device.KindNone:
		return b
	case device.KindBool:
		b = append(b, field+"="...)
		return strconv.AppendBool(b, v.AsBool())
	case device.KindInt:
		b = append(b, field+"="...)
		return append(strconv.AppendInt(b, v.AsInt(), 10), 'i')
	case device.KindUint:
		if v.AsUint() > 1<<63-1 {
			return append(b, field+"="+v.Text()+"u"...)
		}
		return append(b, field+"="+v.Text()+"i"...)
	case device.KindFloat:
		if !finite(v.AsFloat()) { // line protocol has none
			return b
		}
		return append(b, field+"="+v.Text()...)
	default:
		return append(b, field+`="`+textEscape.Replace(v.Text())+`"`...)
	}
}
