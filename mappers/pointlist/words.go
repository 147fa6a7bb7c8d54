package pointlist

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// squeeze brings a header or a word of a cell into the form in which the tables below have them: lower case, letters and digits only.
func squeeze(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Columns that are understood, with the spellings of their headers, squeezed.
var columnWords = map[string][]string{
	"name": {"name", "tag", "tagname", "point", "pointname", "signal", "signalname", "variable", "variablename", "parameter", "parametername", "register name", "registername", "label", "symbol", "measurement", "item",
		"bezeichnung", "messwert", "signalbezeichnung", "nom", "nombre", "nome", "名称", "标签名称", "点位名称"},
	"address": {"address", "addr", "adr", "register", "registeraddress", "registernumber", "registerno", "reg", "regaddress", "modbusaddress", "modbusregister", "startaddress", "startregister", "startingaddress", "addressdec", "registerdec",
		"registeraddressdec", "addressdecimal", "addresshex", "registerhex", "offset", "plcaddress", "dataaddress", "adresse", "registeradresse", "modbusadresse", "startadresse", "registernummer", "direccion", "dirección", "indirizzo", "地址"},
	"type":        {"type", "datatype", "dataformat", "format", "valuetype", "vartype", "variabletype", "typ", "datentyp", "tipo", "类型"},
	"scale":       {"scale", "scaling", "scalefactor", "scalingfactor", "factor", "multiplier", "gain", "coefficient", "resolution", "decimal", "ratio", "skalierung", "skalierungsfaktor", "faktor", "auflösung", "echelle", "facteur"},
	"add":         {"valueoffset", "scaleoffset", "bias", "addend", "nullpunkt"},
	"unit":        {"unit", "units", "uom", "engineeringunit", "engineeringunits", "engunit", "engunits", "eu", "einheit", "unité", "unite", "unidad", "unità"},
	"access":      {"access", "accessmode", "accesstype", "rw", "readwrite", "clientaccess", "attribute", "permission", "permissions", "rights", "writable", "mode", "zugriff", "zugriffsart", "lesenschreiben", "accès", "acces", "acceso", "属性"},
	"description": {"description", "desc", "comment", "comments", "remark", "remarks", "note", "notes", "meaning", "explanation", "beschreibung", "kommentar", "bemerkung", "descripción", "descripcion", "描述"},
	"table":       {"table", "registertable", "registertype", "regtype", "area", "memoryarea", "objecttype", "modbustype", "modbustable", "function", "functioncode", "modbusfunction", "fc", "fcode", "registerart", "funktion", "funktionscode"},
	"length":      {"length", "len", "size", "count", "quantity", "qty", "words", "registers", "numberofregisters", "noofregisters", "registercount", "registerlength", "numregisters", "länge", "laenge", "anzahl", "anzahlregister"},
	"bit":         {"bit", "bitposition", "bitno", "bitnumber", "bitindex", "bitoffset"},
	"order":       {"order", "byteorder", "wordorder", "endian", "endianness", "endianess", "swap", "bytereihenfolge"},
	"minimum":     {"min", "minimum", "minvalue", "lowlimit", "rangelow", "low", "untergrenze"},
	"maximum":     {"max", "maximum", "maxvalue", "highlimit", "rangehigh", "high", "obergrenze"},
	"cycle":       {"cycle", "collectcycle", "scanrate", "scantime", "pollinterval", "pollrate", "interval", "updaterate", "abfrageintervall"},
	"station":     {"slave", "slaveid", "unitid", "stationid", "station", "slaveaddress", "deviceid", "modbusid", "deviceaddress", "geräteadresse"},
}

// Columns lists what columns can hold.
func Columns() []string {
	return []string{"name", "address", "type", "scale", "add", "unit", "access", "description", "table", "length", "bit", "order", "minimum", "maximum", "cycle", "station"}
}

// columnOf finds what a header says; empty if it says nothing that is understood. What is in brackets, as "Scale (x)", may be left out.
func columnOf(header string) string {
	plain, _, _ := strings.Cut(header, "(")
	plain, _, _ = strings.Cut(plain, "[")
	for _, h := range []string{squeeze(header), squeeze(plain)} {
		for _, column := range Columns() {
			for _, w := range columnWords[column] {
				if h == w && h != "" {
					return column
				}
			}
		}
	}
	return ""
}

var tableWords = map[string]string{
	"holding": "holding", "holdingregister": "holding", "holdingregisters": "holding", "hr": "holding", "4x": "holding", "4xxxx": "holding", "halteregister": "holding",
	"input": "input", "inputregister": "input", "inputregisters": "input", "ir": "input", "3x": "input", "3xxxx": "input", "eingangsregister": "input",
	"coil": "coil", "coils": "coil", "0x": "coil", "0xxxx": "coil", "digitaloutput": "coil", "outputcoil": "coil", "do": "coil",
	"discrete": "discrete", "discreteinput": "discrete", "discreteinputs": "discrete", "di": "discrete", "1x": "discrete", "1xxxx": "discrete", "digitalinput": "discrete", "inputstatus": "discrete",
}

var functionTables = map[int]string{1: "coil", 5: "coil", 15: "coil", 2: "discrete", 3: "holding", 6: "holding", 16: "holding", 22: "holding", 23: "holding", 4: "input"}

var functionCode = regexp.MustCompile(`^(?:fc|fn|function|f|0x)?\s*0*([0-9]{1,2})(?:[^0-9x].*)?$`)

// tableOf reads a cell that names a table or the function codes that read and write it, as "03/06/16".
func tableOf(s string) (string, bool) {
	plain, _, _ := strings.Cut(s, "(")
	for _, w := range []string{squeeze(s), squeeze(plain)} {
		if t, ok := tableWords[w]; ok {
			return t, true
		}
	}
	m := functionCode.FindStringSubmatch(strings.ToLower(strings.TrimSpace(s)))
	if m == nil {
		return "", false
	}
	n, err := strconv.Atoi(m[1])
	t, ok := functionTables[n]
	return t, ok && err == nil
}

// valueType is a type with how many registers it takes.
type valueType struct {
	visitor string // the visitor's type
	model   string // the DeviceModel's
	width   int    // registers; 0: by length
}

const typeNames = "int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, bool, bcd16, bcd32, string, bytes"

var valueTypes = map[string]valueType{
	"int16": {"int16", "INT", 1}, "uint16": {"uint16", "INT", 1}, "int32": {"int32", "INT", 2}, "uint32": {"uint32", "INT", 2}, "int64": {"int64", "INT", 4}, "uint64": {"uint64", "INT", 4},
	"int8": {"int8-low", "INT", 1}, "uint8": {"uint8-low", "INT", 1}, "float32": {"float32", "FLOAT", 2}, "float64": {"float64", "DOUBLE", 4}, "bool": {"bool", "BOOLEAN", 1},
	"bcd16": {"bcd16", "INT", 1}, "bcd32": {"bcd32", "INT", 2}, "string": {"string", "STRING", 0}, "bytes": {"bytes", "BYTES", 0},
}

var typeWords = map[string]string{
	"int16": "int16", "s16": "int16", "i16": "int16", "sint16": "int16", "short": "int16", "int": "int16", "integer": "int16", "signed": "int16", "signed16": "int16", "signed16bit": "int16", "signedint16": "int16", "signedint": "int16", "16bitsigned": "int16", "16bitint": "int16", "signedinteger": "int16", "16bitsignedinteger": "int16",
	"uint16": "uint16", "u16": "uint16", "ushort": "uint16", "word": "uint16", "uint": "uint16", "unsigned": "uint16", "unsigned16": "uint16", "unsigned16bit": "uint16", "unsignedint16": "uint16", "unsignedint": "uint16", "unsignedshort": "uint16", "16bitunsigned": "uint16", "unsignedinteger": "uint16", "16bituint": "uint16", "16bitunsignedinteger": "uint16", "enum": "uint16", "enum16": "uint16", "bitfield": "uint16", "bitfield16": "uint16", "16bit": "uint16",
	"int32": "int32", "s32": "int32", "i32": "int32", "sint32": "int32", "long": "int32", "dint": "int32", "signed32": "int32", "signed32bit": "int32", "signedint32": "int32", "32bitsigned": "int32", "32bitint": "int32", "longint": "int32", "32bitsignedinteger": "int32",
	"uint32": "uint32", "u32": "uint32", "ulong": "uint32", "dword": "uint32", "udint": "uint32", "unsigned32": "uint32", "unsigned32bit": "uint32", "unsignedint32": "uint32", "32bitunsigned": "uint32", "unsignedlong": "uint32", "32bituint": "uint32", "32bitunsignedinteger": "uint32", "bitfield32": "uint32",
	"int64": "int64", "s64": "int64", "i64": "int64", "lint": "int64", "signed64": "int64", "64bitsigned": "int64", "longlong": "int64",
	"uint64": "uint64", "u64": "uint64", "ulint": "uint64", "lword": "uint64", "qword": "uint64", "unsigned64": "uint64", "64bitunsigned": "uint64", "acc64": "uint64",
	"float": "float32", "float32": "float32", "f32": "float32", "real": "float32", "single": "float32", "ieee754": "float32", "floatingpoint": "float32", "ieee754float": "float32", "float32bit": "float32", "32bitfloat": "float32", "real32": "float32",
	"double": "float64", "float64": "float64", "f64": "float64", "lreal": "float64", "real64": "float64", "64bitfloat": "float64", "float64bit": "float64",
	"bool": "bool", "boolean": "bool", "bit": "bool", "binary": "bool", "digital": "bool", "flag": "bool", "1bit": "bool", "coil": "bool",
	"int8": "int8", "s8": "int8", "sint": "int8", "uint8": "uint8", "u8": "uint8", "usint": "uint8", "byte": "uint8",
	"bcd": "bcd16", "bcd16": "bcd16", "bcd32": "bcd32", "lbcd": "bcd32",
	"string": "string", "str": "string", "char": "string", "ascii": "string", "text": "string", "chararray": "string", "bytes": "bytes", "raw": "bytes", "hex": "bytes",
}

// typeOf reads a cell with a type.
func typeOf(s string) (valueType, bool) {
	plain, _, _ := strings.Cut(s, "(")
	plain, _, _ = strings.Cut(plain, "[")
	for _, w := range []string{squeeze(s), squeeze(plain)} {
		if name, ok := typeWords[w]; ok {
			return valueTypes[name], true
		}
	}
	return valueType{}, false
}

// orderWords are the byte orders; "swap" of lists is that of words.
var orderWords = map[string]string{
	"abcd": "ABCD", "cdab": "CDAB", "badc": "BADC", "dcba": "DCBA", "ab": "AB", "ba": "BA", "big": "ABCD", "bigendian": "ABCD", "be": "ABCD", "msb": "ABCD", "msbfirst": "ABCD", "1234": "ABCD", "motorola": "ABCD",
	"little": "DCBA", "littleendian": "DCBA", "le": "DCBA", "4321": "DCBA", "wordswap": "CDAB", "wordswapped": "CDAB", "littleendianwordswap": "BADC", "bigendianwordswap": "CDAB", "midbig": "CDAB", "3412": "CDAB", "swapped": "CDAB",
	"byteswap": "BADC", "byteswapped": "BADC", "2143": "BADC", "ll": "ABCD", "bl": "CDAB", "lb": "BADC", "bb": "DCBA",
}

// accessOf reads a cell with access rights; only tells that the point can only be written.
func accessOf(s string) (writable, only, ok bool) {
	switch squeeze(s) {
	case "r", "ro", "read", "readonly", "rd", "lesen", "l", "readsubscribe", "readstatic", "1", "5", "no", "false", "nurlesen", "lecture":
		return false, false, true
	case "rw", "wr", "readwrite", "readandwrite", "writeread", "lesenschreiben", "ls", "readwritesubscribe", "3", "7", "yes", "true", "rwp", "lectureecriture":
		return true, false, true
	case "w", "wo", "write", "writeonly", "schreiben", "s", "2":
		return true, true, true
	}
	return false, false, false
}

// number reads a number with a decimal point or a decimal comma. What could be either is not read.
func number(s string, comma bool) (float64, bool) {
	s = strings.NewReplacer(" ", "", "\u00a0", "", "\u202f", "", "'", "").Replace(strings.TrimSpace(s))
	point, c := strings.LastIndexByte(s, '.'), strings.LastIndexByte(s, ',')
	switch {
	case c < 0:
	case point >= 0 && c > point: // 1.234,5
		s = strings.Replace(strings.ReplaceAll(s, ".", ""), ",", ".", 1)
	case point >= 0: // 1,234.5
		s = strings.ReplaceAll(s, ",", "")
	case strings.Count(s, ",") > 1: // 1,234,567
		s = strings.ReplaceAll(s, ",", "")
	case comma || len(s)-c != 4: // 0,1
		s = strings.Replace(s, ",", ".", 1)
	default: // 1,234
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && !math.IsNaN(n) && !math.IsInf(n, 0)
}

// factor reads what a raw value is multiplied by: 0.1, x0.1, *0,1, /10, 1/10, 10^-1, 10E-1.
func factor(s string, comma bool) (float64, bool) {
	s = strings.TrimSpace(strings.ToLower(s))
	s = strings.TrimSpace(strings.TrimLeft(s, "x×*·"))
	if rest, ok := strings.CutPrefix(s, "10^"); ok {
		n, err := strconv.Atoi(strings.Trim(rest, "() "))
		return math.Pow10(n), err == nil && n >= -30 && n <= 30
	}
	over, under, ok := strings.Cut(s, "/")
	if !ok {
		over, under, ok = strings.Cut(s, ":")
	}
	if !ok {
		n, ok := number(s, comma)
		return n, ok && n != 0
	}
	a, b := 1.0, 0.0
	if over = strings.TrimSpace(over); over != "" {
		if a, ok = number(over, comma); !ok {
			return 0, false
		}
	}
	if b, ok = number(under, comma); !ok || a == 0 || b == 0 {
		return 0, false
	}
	return a / b, true
}
