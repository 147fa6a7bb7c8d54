package serial

import (
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

func TestParsers(t *testing.T) {
	const gga = "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47"
	const rmc = "$GNRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E*7C"
	for _, c := range []struct {
		typ   device.Type
		visit []any
		frame string
		want  string // "!" and a part of the error if there is none, "?" if the frame is for somebody else
	}{
		{device.TypeFloat, nil, "  + 0012.50 ", "12.5"},
		{device.TypeInt, nil, "-007", "-7"},
		{device.TypeInt, data2("base", 16), "ff", "255"},
		{device.TypeFloat, data2("decimal", "comma"), "3,5", "3.5"},
		{device.TypeFloat, nil, "NaN", "!not a number"},
		{device.TypeFloat, nil, "0x1p4", "!not a number"},
		{device.TypeInt, nil, "", "!no number"},
		{device.TypeInt, nil, "12 kg", "!\"12 kg\" is not a number"},
		{device.TypeString, nil, " a\xff b \r", "a\uFFFD b"},
		{device.TypeString, nil, strings.Repeat("x", 5000), "!4096 at most"},
		{device.TypeBytes, nil, "\x00\x01", "AAE="},
		{device.TypeBoolean, nil, "ON", "true"},
		{device.TypeBoolean, data2("trueText", "open", "falseText", "shut"), "shut", "false"},
		{device.TypeBoolean, data2("trueText", "open", "falseText", "shut"), "on", "!neither trueText nor falseText"},
		{device.TypeFloat, data2("pattern", `(?P<unit>[a-z]+) *(?P<value>[-\d.]+)`), "kg -3.25", "-3.25"},
		{device.TypeString, data2("pattern", `(?P<unit>[a-z]+) *(?P<value>[-\d.]+)`, "group", "unit"), "kg -3.25", "kg"},
		{device.TypeString, data2("pattern", `a(b)?`, "group", "1"), "ac", "!matches nothing"},
		{device.TypeInt, data2("pattern", `x(\d)`), "y1", "?"},
		{device.TypeInt, data2("pattern", `x.(\d)`), "x\n1", "1"},
		{device.TypeInt, data2("column", 2), "1, 2 ,3", "2"},
		{device.TypeString, data2("column", 2), `a,"b,""c""",d`, `b,"c"`},
		{device.TypeInt, data2("column", 3, "separator", "\\t"), "1\t2\t3", "3"},
		{device.TypeInt, data2("column", 4), "1,2,3", "?"},
		{device.TypeFloat, data2("path", "s[1].t"), `{"s":[{},{"t":1.25e1}]}`, "12.5"},
		{device.TypeInt, data2("path", "$.n"), `{"n":9007199254740993}`, "9007199254740993"},
		{device.TypeBoolean, data2("path", "on"), `{"on":true}`, "true"},
		{device.TypeString, data2("path", "o"), `{"o":{"b":1,"a":[2]}}`, `{"a":[2],"b":1}`},
		{device.TypeInt, data2("path", "n"), `{"n":null}`, "!null"},
		{device.TypeInt, data2("path", "m"), `{"n":1}`, "?"},
		{device.TypeInt, data2("path", "n"), `{"n":1} x`, "?"},
		{device.TypeInt, data2("path", "n"), strings.Repeat("[", 20000), "?"},
		{device.TypeDouble, data2("sentence", "GGA", "field", "latitude"), gga, "48.1173"},
		{device.TypeDouble, data2("sentence", "gpgga", "field", "longitude"), gga, "11.516666667"},
		{device.TypeFloat, data2("sentence", "GGA", "field", "altitude"), gga + "\r", "545.4"},
		{device.TypeInt, data2("sentence", "GGA", "field", 7), gga, "8"},
		{device.TypeString, data2("sentence", "GGA", "field", 13), gga, "!is empty"},
		{device.TypeString, data2("sentence", "GGA", "field", 40), gga, "!only 14 fields"},
		{device.TypeInt, data2("sentence", "GNGGA", "field", 7), gga, "?"},
		{device.TypeDouble, data2("sentence", "RMC", "field", "latitude"), strings.Replace(rmc, "*7C", "*66", 1), "?"},
		{device.TypeInt, data2("sentence", "GGA", "field", 6), strings.TrimSuffix(gga, "*47"), "?"},
		{device.TypeInt, data2("sentence", "GGA", "field", 6, "checksumOptional", true), strings.TrimSuffix(gga, "*47"), "1"},
		{device.TypeInt, data2("offset", 1, "type", "uint32", "order", "CDAB"), "\x00\x56\x78\x12\x34", "305419896"},
		{device.TypeInt, data2("offset", 0, "type", "int32", "order", "BADC"), "\x34\x12\x78\x56", "305419896"},
		{device.TypeInt, data2("offset", 0, "type", "int24"), "\xff\xff\xfe", "-2"},
		{device.TypeInt, data2("offset", 0, "type", "uint64"), strings.Repeat("\xff", 8), "18446744073709551615"},
		{device.TypeDouble, data2("offset", -8, "type", "float64", "order", "little"), "xx\x00\x00\x00\x00\x00\x80\x35\x40", "21.5"},
		{device.TypeInt, data2("offset", 0, "type", "bcd", "size", 3), "\x12\x34\x56", "123456"},
		{device.TypeInt, data2("offset", 0, "type", "bcd"), "\x1A", "!not a number in BCD"},
		{device.TypeString, data2("offset", 1, "type", "string", "size", 3), "xab\x00c", "ab"},
		{device.TypeInt, data2("offset", -9, "type", "uint8"), "short", "!the field would be"},
		{device.TypeInt, data2("scale", 0.1, "add", -40), "615", "21.5"},
	} {
		p, err := parsePoint(visitor(c.typ, c.visit...))
		if err != nil {
			t.Error(err)
			continue
		}
		v, err := p.read(&message{raw: []byte(c.frame)})
		why, wantErr := strings.CutPrefix(c.want, "!")
		switch {
		case c.want == "?":
			if !isOther(err) {
				t.Errorf("%v of %.40q: %q %v, want that it is for somebody else", c.visit, c.frame, v.Text(), err)
			}
		case wantErr:
			if err == nil || isOther(err) || !strings.Contains(err.Error(), why) {
				t.Errorf("%v of %.40q: %q %v, want %s", c.visit, c.frame, v.Text(), err, why)
			}
		case err != nil || v.Text() != c.want:
			t.Errorf("%v of %.40q: %q %v, want %s", c.visit, c.frame, v.Text(), err, c.want)
		}
	}
}

func data2(kv ...any) []any { return kv }

func TestTemplates(t *testing.T) {
	for _, c := range []struct {
		template string
		value    device.Value
		want     string // "!" and a part of the error
	}{
		{`SET {value:%05.1f}\r\n`, device.Float(2.25), "SET 002.2\r\n"},
		{`{value}`, device.Bool(true), "true"},
		{`{"set":{value},"u":"{station}"}`, device.Int(5), `{"set":5,"u":"7"}`},
		{`{value:%x}`, device.Int(255), "ff"},
		{`{value:%08b}`, device.Int(5), "00000101"},
		{`{value:%+d}{value:%c}`, device.Int(65), "+65A"},
		{`{value:%6s}|`, device.String("ab"), "    ab|"},
		{`{value:%s}`, device.Bytes([]byte{0, 13}), "\x00\r"},
		{`hex: 02 {station:u8} {value:i16le} 03`, device.Int(-2), "\x02\x07\xfe\xff\x03"},
		{`hex:{value:f32be}`, device.Float32(21.5), "\x41\xac\x00\x00"},
		{`hex:{value:u64be}`, device.Uint(1 << 63), "\x80\x00\x00\x00\x00\x00\x00\x00"},
		{`\x02{value}\x03\\\0`, device.Int(1), "\x021\x03\\\x00"},
		{`{value:u8}`, device.Int(256), "!from 0 to 255"},
		{`{value:i8}`, device.Int(-129), "!from -128 to 127"},
		{`{value:%d}`, device.Float(1.5), "!not a whole number"},
		{`{value:%d}`, device.String("x"), "!not a whole number"},
		{`{value:%f}`, device.String("x"), "!not a number"},
		{`{value:%c}`, device.String("xy"), "!not one character"},
		{`{value}`, device.String("a\nb"), "!control character"},
		{`{value}`, device.String(strings.Repeat("x", 2000)), "!longer than 1024"},
		{`{value}`, device.Value{}, "!no value"},
		{`{other}{value:}`, device.Int(1), "!!"},
		{``, device.Int(1), "!!"}, {`\`, device.Int(1), "!!"}, {`\x1`, device.Int(1), "!!"}, {`hex:0`, device.Int(1), "!!"}, {`{value:%s%s}`, device.Int(1), "!!"},
		{`{value:%*d}`, device.Int(1), "!!"}, {`{value:%v}`, device.Int(1), "!!"}, {`{value:%.99f}`, device.Int(1), "!!"},
	} {
		tp, err := parseTemplate(c.template)
		if (err != nil) != (c.want == "!!") {
			t.Errorf("%q: %v", c.template, err)
		}
		if err != nil {
			continue
		}
		got, err := tp.expand("7", c.value)
		if why, wantErr := strings.CutPrefix(c.want, "!"); wantErr {
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%q: %q %v", c.template, got, err)
			}
		} else if err != nil || string(got) != c.want {
			t.Errorf("%q: %q %v", c.template, got, err)
		}
	}
}

// FuzzParsers gives any frame to one parser of each kind: none may panic, and values are bounded.
func FuzzParsers(f *testing.F) {
	var points []*point
	for _, v := range [][]any{
		nil, {"pattern", `(\w+)=(?P<value>.*)`}, {"column", 2}, {"column", 3, "separator", ";"}, {"path", "a[1].b"}, {"sentence", "GGA", "field", "latitude"}, {"sentence", "RMC", "field", 3, "checksumOptional", true},
		{"offset", -4, "type", "float32"}, {"offset", 2, "type", "bcd", "size", 8}, {"offset", 1, "type", "string"}, {"offset", 0, "type", "bytes", "size", 5}, {"offset", 0, "type", "bit", "bit", 7},
		{"base", 16}, {"decimal", "comma", "scale", 0.1},
	} {
		for _, typ := range []device.Type{device.TypeInt, device.TypeDouble, device.TypeString, device.TypeBoolean, device.TypeBytes} {
			if p, err := parsePoint(visitor(typ, v...)); err == nil {
				points = append(points, p)
			}
		}
	}
	for _, s := range []string{"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47", `{"a":[1,{"b":"x"}]}`, `1,"a""b",c`, "k=+ 1,5", "\x00\x99\xff\x10", "18446744073709551615"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m := &message{raw: frame}
		for _, p := range points {
			v, err := p.read(m)
			if err == nil && (v.Kind() == device.KindNone || len(v.Text()) > 4*maxText) {
				t.Fatalf("%s: %v of %d bytes", p, v.Kind(), len(v.Text()))
			}
			if err != nil && len(err.Error()) > 2048 {
				t.Fatalf("%s: an error of %d bytes", p, len(err.Error()))
			}
		}
	})
}

// FuzzTemplate: whatever a manifest has, what is sent stays bounded, and a value's text cannot bring control characters of its own.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{`SET {value:%05.1f}\r\n`, `hex:02{value:u16be}{station:u8}03`, `{"a":{value}}`, `\x4`, `{value:%40.20e}`} {
		f.Add(s, "7", 1.5)
	}
	f.Fuzz(func(t *testing.T, source, station string, number float64) {
		tp, err := parseTemplate(source)
		if err != nil {
			return
		}
		for _, v := range []device.Value{device.Float(number), device.Int(int64(number)), device.String(station), device.Bytes([]byte(station)), device.Bool(true), {}} {
			if out, err := tp.expand(station, v); err == nil && len(out) > maxTemplate {
				t.Fatalf("%d bytes", len(out))
			}
		}
	})
}

// FuzzConfig gives any configuration to the driver: it is refused, or what it makes works within limits.
func FuzzConfig(f *testing.F) {
	f.Add("length", "\\x68", "CRC-16/MODBUS", "hex: 68 00 {station:u8}", "(?P<value>.*)", "a[1].b", 3)
	f.Add("startStop", "\\x10\\x02", "width=16 poly=0x1021", "P\\r\\n", "[", "$.x", -1)
	f.Fuzz(func(t *testing.T, framing, start, checksum, request, pattern, path string, n int) {
		c, err := parseConfig(device.Config{Protocol: map[string]any{"serialPort": "/dev/ttyS0", "framing": framing, "start": start, "checksum": checksum, "request": request, "station": "7",
			"lengthOffset": n, "lengthSize": n, "frameLength": n, "maxFrame": n, "checksumFrom": n, "match": pattern, "init": []any{request, n}}})
		if err == nil {
			if err := c.format.Check(); err != nil {
				t.Fatalf("a format that cannot be was accepted: %v", err)
			}
		} else if len(device.FieldErrors(err)) == 0 {
			t.Fatalf("an error that names no field: %v", err)
		}
		for _, v := range []map[string]any{{"pattern": pattern, "group": path}, {"path": path}, {"offset": n, "type": framing, "size": n, "bit": n}, {"sentence": framing, "field": path}, {"column": n, "separator": start}} {
			p, err := parsePoint(device.PointConfig{Property: "p", Type: device.TypeDouble, Visitor: v})
			if err == nil {
				_, _ = p.read(&message{raw: []byte(request)})
			} else if len(device.FieldErrors(err)) == 0 {
				t.Fatalf("an error that names no field: %v", err)
			}
		}
	})
}
