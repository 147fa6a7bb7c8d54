package derived

import (
	"errors"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testProperties() []Property {
	return []Property{
		{Name: "flow", Type: device.TypeDouble}, {Name: "offset", Type: device.TypeFloat}, {Name: "count", Type: device.TypeInt},
		{Name: "word", Type: device.TypeInt}, {Name: "on", Type: device.TypeBoolean}, {Name: "mode", Type: device.TypeString},
		{Name: "flow-rate", Type: device.TypeDouble}, {Name: "raw", Type: device.TypeBytes}, {Name: "dead", Type: device.TypeInt},
		{Name: "old", Type: device.TypeInt}, {Name: "never", Type: device.TypeInt},
	}
}

// known returns a state in which all test properties but never have a reading, ten seconds after the one before.
func known(t *testing.T, set *Set) *State {
	t.Helper()
	s := set.State()
	for i, v := range []device.Value{device.Float(1), device.Float32(0), device.Int(65530), device.Int(0), device.Bool(false), device.String("auto"),
		device.Float(6), device.Bytes([]byte{1}), device.Int(1), device.Int(1)} {
		s.Put(i, v.At(epoch))
	}
	at := epoch.Add(10 * time.Second)
	for i, v := range []device.Value{device.Float(2.5), device.Float32(0.5), device.Int(4), device.Int(0x1234), device.Bool(true), device.String("manual"),
		device.Float(7), device.Bytes([]byte{2}), device.BadValue("no answer", at), device.Int(3).Doubt(device.Uncertain, "from before a restart")} {
		s.Put(i, v.At(at))
	}
	return s
}

func evaluate(t *testing.T, src string) (device.Value, bool) {
	t.Helper()
	properties := testProperties()
	e, err := Parse(src, properties)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	set, errs := Compile(properties)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return known(t, set).Eval(e, new(Memo), epoch.Add(12*time.Second))
}

func TestResults(t *testing.T) {
	for src, want := range map[string]string{
		"(flow * 3.6) + offset": "9.5", "flow - 1 - 1": "0.5", "count / 8": "0.5", "count % 3": "1", "flow % 2": "0.5", "-count ** 2": "-16",
		"2 ** 3 ** 2 + 0 * count": "512", "count * 2 + 1": "9", "1e3 + flow": "1002.5", "`flow-rate` * 2": "14", "+count": "4", ".5 + flow": "3",
		"010 + 0*count": "10", "0x10 + 0*count": "16", "0b101 + 0*count": "5",
		"word & 0xFF": "52", "word >> 8": "18", "word << 4 | 1": "74561", "~count": "-5", "xor(count, 5)": "1", "bit(word, 2)": "true", "bits(word, 4, 4)": "3",
		"flow > 2 and on": "true", "flow > 2 && !on": "false", "not on or count == 4": "true", "on == (flow > 3)": "false", "mode == 'manual'": "true",
		`mode != "manual"`: "false", "count <= 4.0": "true", "flow >= 3": "false", "mode < 'n'": "true", "count & 4 == 4": "true",
		"on ? count : 0": "4", "if(flow > 9, 1, count / 2)": "2", "on ? 'yes' : mode": "yes", "count > 9 ? 1 : count > 3 ? 2 : 3": "2",
		"abs(0 - count)": "4", "abs(-flow)": "2.5", "min(count, 9, 2)": "2", "max(flow, count)": "4", "clamp(flow, 0, 2)": "2", "scale(count, 4, 20, 0, 100)": "0",
		"round(flow)": "3", "floor(flow)": "2", "ceil(flow)": "3", "trunc(-flow)": "-2", "sqrt(count)": "2", "pow(flow, 2)": "6.25", "ln(exp(flow))": "2.5",
		"log10(100) + 0 * flow": "2", "int(flow) << 1": "6", "float(count) / 8": "0.5", "length(mode)": "6", "contains(mode, 'anu')": "true",
		"startsWith(mode, 'man')": "true", "endsWith(mode, 'x')": "false", "number('1.5') + count": "5.5",
		"quality(dead)": "bad", "quality(old) == 'uncertain'": "true", "good(flow)": "true", "bad(dead) ? -1 : count": "-1", "fallback(dead, 7)": "7",
		"fallback(count, 7)": "4", "age(flow)": "2", "timestamp(flow) - timestamp(count)": "0", "now() - timestamp(flow)": "2000", "now() / 1 - timestamp(flow)": "2000",
		"previous(flow)": "1", "previous(mode)": "auto", "changed(flow)": "true", "delta(flow)": "1.5", "rate(flow)": "0.15", "increase(count, 65536)": "10",
		"rate(count) < 0": "true", "quality(raw)": "good", "sin(0) + cos(0) + tan(0) + atan(0) + 0 * flow": "1",
	} {
		v, ok := evaluate(t, src)
		if !ok || v.Text() != want || v.Quality != device.Good {
			t.Errorf("%s = %q (%v %s, %v), want %q", src, v.Text(), v.Quality, v.Reason, ok, want)
		}
	}
}

// TestNoResult: what cannot be calculated is bad for a reason that a technician understands.
func TestNoResult(t *testing.T) {
	for src, want := range map[string]string{
		"flow / (count - 4)": "division by zero, at character 6", "count % (count - 4)": "division by zero", "dead + 1": `input "dead": no answer`,
		"9223372036854775807 + count": "the sum is a whole number beyond 64 bits", "-9223372036854775807 - count": "the difference is",
		"9223372036854775807 * count": "the product is", "count << 64": "a shift outside 0 to 63", "bit(count, -1)": "a bit's number",
		"sqrt(-flow)": "not a finite number", "exp(1e6 * flow)": "not a finite number", "int(1e300 * flow)": "beyond 64 bits", "number(mode)": "not a number",
		"scale(flow, 4, 4, 0, 1)": "a range without width", "increase(count, 0)": "modulus is not above 0",
	} {
		v, ok := evaluate(t, src)
		if !ok || v.Quality != device.Bad || v.Kind() != device.KindNone || !strings.Contains(v.Reason, want) {
			t.Errorf("%s = %q (%v %q, %v), want bad: %s", src, v.Text(), v.Quality, v.Reason, ok, want)
		}
	}
	for _, src := range []string{"never + 1", "on and never > 1", "bad(never)", "count + previous(never)"} {
		if v, ok := evaluate(t, src); ok {
			t.Errorf("%s = %v although there is no reading yet", src, v)
		}
	}
}

func TestQualityIsTheWorstOfWhatWasUsed(t *testing.T) {
	v, _ := evaluate(t, "old + count")
	if v.Quality != device.Uncertain || v.Text() != "7" || v.Reason != `input "old": from before a restart` {
		t.Errorf("old + count: %q %v %q", v.Text(), v.Quality, v.Reason)
	}
	if v, _ = evaluate(t, "on ? count : old + dead"); v.Quality != device.Good {
		t.Errorf("an input that was not used counts: %v %s", v.Quality, v.Reason)
	}
	if !v.Server.Equal(epoch.Add(10 * time.Second)) {
		t.Errorf("timestamp %v, want that of the reading", v.Server)
	}
}

func TestErrorsNameWhatIsWrong(t *testing.T) {
	for src, want := range map[string]string{
		"":                                 "at character 1: the expression is empty",
		"flwo * 2":                         `at character 1: the device has no property "flwo"; allowed: flow, offset`,
		"2 * speed":                        `at character 5: the device has no property "speed"`,
		"temp-rate":                        `the device has no property "temp"`,
		"flow *":                           "at character 7: unexpected the end",
		"flow flow":                        `at character 6: unexpected "flow"`,
		"(flow":                            `expected ")"`,
		"flow ^ 2":                         `"^" means different things`,
		"flow = 2":                         `"=" does not compare; allowed: ==`,
		"flow & 1":                         "works on the bits of whole numbers",
		"on + 1":                           `"+" calculates with numbers, and finds true or false`,
		"flow and on":                      `"and" joins what is true or false`,
		"mode == 1":                        "a text is compared with a whole number",
		"on < on":                          "no order",
		"1 < flow < 3":                     "comparisons cannot be chained",
		"!count":                           `"!" turns true and false round`,
		"-mode":                            `"-" stands before a text`,
		"~flow":                            `"~" stands before a number`,
		"flow ? 1 : 2":                     "the condition is a number",
		"on ? 1 : 'x'":                     "one result is a whole number, the other is a text",
		"raw":                              `property "raw" is BYTES`,
		"previous(raw)":                    "previous of a BYTES",
		"foo(flow)":                        `there is no function "foo"; allowed: abs, min`,
		"min(flow)":                        "min has 1 arguments; allowed: min(number, number, …)",
		"abs(flow, 1)":                     "too many arguments",
		"rate(3)":                          "rate is about a property, and finds",
		"rate(mode)":                       "rate is about numbers",
		"bit(flow, 1)":                     "an argument of bit is a number; allowed: bit(whole number, whole number)",
		"1 + 2":                            "it names no property",
		"now()":                            "it names no property",
		"flow + 'x":                        "the quote ' is not closed",
		"flow # 2":                         "the character '#' means nothing here",
		"flow + 1.2.3":                     `"1.2.3" is not a number`,
		"flow + 12abc":                     `"12abc" is not a number`,
		"äöü + $":                          "at character 7: the character '$'",
		"if(on, 1)":                        `expected ","`,
		"1e999 + flow":                     "is not a number",
		strings.Repeat("(", 100) + "flow":  "nested too deeply",
		strings.Repeat("-", 100) + "flow":  "nested too deeply",
		"flow" + strings.Repeat("+1", 300): "too long",
		"flow" + strings.Repeat(" ", 3000): "the expression has 3004 bytes",
		"count ** " + strings.Repeat("2 ** ", 100) + "1": "nested too deeply",
	} {
		_, err := Parse(src, testProperties())
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", src, err, want)
		}
	}
	_, err := Parse("flowrate-2 * flow", []Property{{Name: "flowrate-2", Type: device.TypeInt}, {Name: "flow", Type: device.TypeInt}})
	if err == nil || !strings.Contains(err.Error(), "write `flowrate-2` in backquotes") {
		t.Errorf("a name with a hyphen: %v", err)
	}
}

func TestSetOrdersAndRefusesCircles(t *testing.T) {
	set, errs := Compile([]Property{
		{Name: "c", Type: device.TypeDouble, Expr: "b + 1"}, {Name: "b", Type: device.TypeDouble, Expr: "a * 2"}, {Name: "a", Type: device.TypeInt},
		{Name: "x", Type: device.TypeInt, Expr: "y + a"}, {Name: "y", Type: device.TypeInt, Expr: "z"}, {Name: "z", Type: device.TypeInt, Expr: "x"},
		{Name: "self", Type: device.TypeInt, Expr: "self + a"}, {Name: "after", Type: device.TypeInt, Expr: "x + 1"},
		{Name: "flag", Type: device.TypeDouble, Expr: "a > 1"}, {Name: "text", Type: device.TypeString, Expr: "a"}, {Name: "whole", Type: device.TypeInt, Expr: "a / 2"},
	})
	for i, want := range map[int]string{3: "x → y → z → x", 4: "y → z → x → y", 5: "z → x → y → z", 6: "self → self", 8: "the result is true or false, and the property is DOUBLE"} {
		if errs[i] == nil || !strings.Contains(errs[i].Error(), want) {
			t.Errorf("property %d: %v, want %s", i, errs[i], want)
		}
	}
	if len(errs) != 5 {
		t.Errorf("errors: %v", errs)
	}
	s := set.State()
	s.Put(2, device.Int(5).At(epoch))
	got := map[int]string{}
	for _, r := range s.Run(epoch) {
		got[r.Index] = r.Value.Text()
	}
	if len(got) != 4 || got[0] != "11" || got[1] != "10" || got[9] != "5" || got[10] != "3" {
		t.Errorf("calculated: %v", got)
	}
	if again := s.Run(epoch); len(again) != 0 {
		t.Errorf("calculated again without a fresh reading: %v", again)
	}
	s.Put(2, device.BadValue("gone", epoch))
	for _, r := range s.Run(epoch) {
		if r.Value.Quality != device.Bad || !strings.Contains(r.Value.Reason, "gone") {
			t.Errorf("property %d is %v %q after its input went bad", r.Index, r.Value.Quality, r.Value.Reason)
		}
	}
}

// TestPreviousSpansAGap: a reading that failed is not the previous one.
func TestPreviousSpansAGap(t *testing.T) {
	set, _ := Compile([]Property{{Name: "n", Type: device.TypeInt}, {Name: "r", Type: device.TypeDouble, Expr: "rate(n)"}})
	s := set.State()
	s.Put(0, device.Int(10).At(epoch))
	if out := s.Run(epoch); len(out) != 0 {
		t.Errorf("a rate from one reading: %v", out)
	}
	s.Put(0, device.BadValue("lost", epoch.Add(time.Second)))
	s.Run(epoch)
	s.Put(0, device.Int(30).At(epoch.Add(4*time.Second)))
	if out := s.Run(epoch); len(out) != 1 || out[0].Value.Text() != "5" {
		t.Errorf("the rate after a gap: %v, want 5", out)
	}
	fresh := set.State()
	fresh.Adopt(0, s, 0)
	fresh.Put(0, device.Int(31).At(epoch.Add(5*time.Second)))
	if out := fresh.Run(epoch); len(out) != 1 || out[0].Value.Text() != "1" {
		t.Errorf("the rate with a state that was taken over: %v, want 1", out)
	}
}

func TestTimed(t *testing.T) {
	for src, want := range map[string]bool{"flow > 1": false, "age(flow) > 60": true, "on and now() - timestamp(flow) > 5": true, "rate(flow) > 1": false} {
		if e, err := Parse(src, testProperties()); err != nil || e.Timed() != want {
			t.Errorf("%s: %v, %v", src, e, err)
		}
	}
}

func TestUnsignedCounters(t *testing.T) {
	properties := []Property{{Name: "n", Type: device.TypeInt}, {Name: "d", Type: device.TypeDouble, Expr: "delta(n)"}, {Name: "m", Type: device.TypeInt, Expr: "n + 1"}}
	set, _ := Compile(properties)
	s := set.State()
	s.Put(0, device.Uint(math.MaxUint64-9).At(epoch))
	s.Put(0, device.Uint(math.MaxUint64).At(epoch.Add(time.Second)))
	out := s.Run(epoch)
	if len(out) != 2 || out[0].Value.Text() != "9" || out[1].Value.Quality != device.Bad {
		t.Errorf("%v", out)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	set, errs := Compile([]Property{
		{Name: "flow", Type: device.TypeDouble}, {Name: "n", Type: device.TypeInt}, {Name: "dead", Type: device.TypeInt},
		{Name: "a", Type: device.TypeFloat, Expr: "(flow * 3.6) + min(n, 3, flow) + rate(flow)"}, {Name: "b", Type: device.TypeBoolean, Expr: "bit(n, 3) and quality(flow) == 'good'"},
		{Name: "c", Type: device.TypeInt, Expr: "dead + 1"}, {Name: "d", Type: device.TypeInt, Expr: "n / (n - n)"}, {Name: "e", Type: device.TypeInt, Expr: "c + a > 1 ? 1 : 2"},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s := set.State()
	at := epoch
	round := func() {
		at = at.Add(time.Second)
		s.Put(0, device.Float(2).At(at))
		s.Put(1, device.Int(9).At(at))
		s.Put(2, device.BadValue("no answer", at))
		if got := len(s.Run(at)); got != 5 && at.After(epoch.Add(time.Second)) {
			t.Fatalf("%d results", got)
		}
	}
	round()
	round()
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations in each round of 5 expressions", n)
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"flow * 3.6 + offset", "if(on, count, 1) ** 2", "bits(word, 4, 4) << 2 | ~1", "`flow-rate` / 0", "rate(flow) > 1 and mode == 'x'", "min(1,2,flow)%0x1F", "fallback(dead, 1)"} {
		f.Add(s, 1.5, int64(7))
	}
	f.Fuzz(func(t *testing.T, src string, x float64, n int64) {
		properties := testProperties()
		e, err := Parse(src, properties)
		if err != nil {
			var known *Error
			if !errors.As(err, &known) || known.Pos < 1 {
				t.Fatalf("an error without a position: %v", err)
			}
			return
		}
		set, _ := Compile(properties)
		s := known(t, set)
		s.Put(0, device.Float(x).At(epoch))
		s.Put(2, device.Int(n).At(epoch))
		if nodes := count(e.root); nodes > 2*maxNodes {
			t.Fatalf("%d steps", nodes)
		}
		if v, ok := s.Eval(e, new(Memo), epoch); ok && v.Quality != device.Good && v.Reason == "" {
			t.Fatalf("%q: %v without a reason", src, v)
		}
	})
}

func count(n *node) int {
	sum := 1
	for _, a := range n.args {
		sum += count(a)
	}
	return sum
}

// TestDocumentListsFunctions: what can be called is documented, and nothing else.
func TestDocumentListsFunctions(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/derived.md")
	if err != nil {
		t.Fatal(err)
	}
	table := string(doc[strings.Index(string(doc), "| function | result |"):])
	table = table[:strings.Index(table, "\n\n")]
	for _, name := range functionNames() {
		if name != "if" && !strings.Contains(table, "`"+name+"(") {
			t.Errorf("docs/derived.md does not list %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`([a-zA-Z0-9]+)\\(").FindAllStringSubmatch(table, -1) {
		if _, ok := functionNamed(m[1]); !ok {
			t.Errorf("docs/derived.md lists %s, which there is not", m[1])
		}
	}
}
