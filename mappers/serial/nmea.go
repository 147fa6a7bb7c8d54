package serial

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// sentence is an NMEA 0183 sentence: its address (talker and formatter, e.g. GPGGA) and its fields, from 1.
type sentence struct {
	address string
	fields  []string
	summed  bool // it had a checksum, a right one
}

// parseSentence reads a sentence as a receiver sends it: "$GPGGA,…*47" or "!AIVDM,…*2B" (IEC 61162-1, clause 7).
func parseSentence(frame []byte) (sentence, error) {
	line := strings.TrimSpace(string(frame))
	if len(line) < 6 || line[0] != '$' && line[0] != '!' {
		return sentence{}, fmt.Errorf("%s is not an NMEA sentence", visible(frame))
	}
	body, sum, summed := strings.Cut(line[1:], "*")
	if summed {
		want, err := strconv.ParseUint(sum, 16, 8)
		got := byte(0)
		for i := range len(body) {
			got ^= body[i]
		}
		if err != nil || len(sum) != 2 || byte(want) != got {
			return sentence{}, fmt.Errorf("%s has a wrong checksum, %02X would be right", visible(frame), got)
		}
	}
	fields := strings.Split(body, ",")
	if strings.ContainsFunc(fields[0], func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		return sentence{}, fmt.Errorf("%s is not an NMEA sentence", visible(frame))
	}
	return sentence{address: fields[0], fields: fields[1:], summed: summed}, nil
}

// nmeaParser takes a field of a sentence.
type nmeaParser struct {
	sentence   string // a formatter (GGA: of any talker), or talker and formatter (GNGGA)
	name       string // of the field, for messages
	field      int    // from 1
	coordinate bool   // the field and the next one are degrees and minutes, and a hemisphere
	unsummed   bool   // sentences without a checksum are taken too
	text       textFormat
}

func (p *nmeaParser) String() string {
	return fmt.Sprintf("%s of NMEA sentence %s", p.name, p.sentence)
}

func (p *nmeaParser) parse(m *message) (device.Value, error) {
	if !m.nmeaDone {
		m.nmeaDone = true
		m.nmea, m.nmeaErr = parseSentence(m.raw)
	}
	s := &m.nmea
	switch {
	case m.nmeaErr != nil:
		return device.Value{}, other("%v", m.nmeaErr)
	case s.address != p.sentence && (len(p.sentence) != 3 || !strings.HasSuffix(s.address, p.sentence)):
		return device.Value{}, other("sentence %s came, not %s", s.address, p.sentence)
	case !s.summed && !p.unsummed:
		return device.Value{}, other("sentence %s has no checksum", s.address)
	case p.field > len(s.fields) || p.coordinate && p.field+1 > len(s.fields):
		return device.Value{}, fmt.Errorf("sentence %s has only %d fields", s.address, len(s.fields))
	case s.fields[p.field-1] == "":
		return device.Value{}, fmt.Errorf("%s of sentence %s is empty: the receiver does not know it (no fix?)", p.name, s.address)
	case p.coordinate:
		return coordinate(s.fields[p.field-1], s.fields[p.field])
	}
	return p.text.value(s.fields[p.field-1])
}

// coordinate turns degrees and minutes (4807.038) with a hemisphere into degrees; south and west are negative.
func coordinate(angle, hemisphere string) (device.Value, error) {
	bad := fmt.Errorf("%q %q is not a position", angle, hemisphere)
	whole, _, _ := strings.Cut(angle, ".")
	if len(whole) < 3 || len(whole) > 5 || strings.Trim(angle, "0123456789.") != "" {
		return device.Value{}, bad
	}
	degrees, err1 := strconv.Atoi(whole[:len(whole)-2])
	minutes, err2 := strconv.ParseFloat(angle[len(whole)-2:], 64)
	limit := 90.0
	sign := 1.0
	switch hemisphere {
	case "N":
	case "S":
		sign = -1
	case "E":
		limit = 180
	case "W":
		limit, sign = 180, -1
	default:
		return device.Value{}, bad
	}
	v := float64(degrees) + minutes/60
	if errors.Join(err1, err2) != nil || minutes >= 60 || v > limit {
		return device.Value{}, bad
	}
	return device.Float(sign * math.Round(v*1e9) / 1e9), nil // a tenth of a millimetre
}

// nmeaField is a field that has a name.
type nmeaField struct {
	number     int
	coordinate bool
}

// nmeaFields names the fields of the sentences that every receiver sends.
var nmeaFields = map[string]map[string]nmeaField{
	"GGA": {"time": {number: 1}, "latitude": {2, true}, "longitude": {4, true}, "quality": {number: 6}, "satellites": {number: 7}, "hdop": {number: 8}, "altitude": {number: 9}, "geoid": {number: 11}},
	"RMC": {"time": {number: 1}, "status": {number: 2}, "latitude": {3, true}, "longitude": {5, true}, "speed": {number: 7}, "course": {number: 8}, "date": {number: 9}, "mode": {number: 12}},
	"GLL": {"latitude": {1, true}, "longitude": {3, true}, "time": {number: 5}, "status": {number: 6}},
	"VTG": {"course": {number: 1}, "magnetic": {number: 3}, "speed": {number: 5}, "kmh": {number: 7}},
	"GSA": {"mode": {number: 1}, "fix": {number: 2}, "pdop": {number: 15}, "hdop": {number: 16}, "vdop": {number: 17}},
	"ZDA": {"time": {number: 1}, "day": {number: 2}, "month": {number: 3}, "year": {number: 4}},
	"HDT": {"heading": {number: 1}},
	"MWV": {"angle": {number: 1}, "reference": {number: 2}, "speed": {number: 3}, "unit": {number: 4}, "status": {number: 5}},
	"DBT": {"feet": {number: 1}, "metres": {number: 3}, "fathoms": {number: 5}},
}

// findNMEAField resolves a field: a number, or a name that the sentence has.
func findNMEAField(formatter, name string) (nmeaField, bool) {
	var n int
	if _, err := fmt.Sscanf(name+";", "%d;", &n); err == nil {
		return nmeaField{number: n}, n >= 1 && n <= 80
	}
	f, ok := nmeaFields[formatter[max(0, len(formatter)-3):]][strings.ToLower(name)]
	return f, ok
}
