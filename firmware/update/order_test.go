package update

import (
	"strings"
	"testing"
	"time"
)

func TestParseOrder(t *testing.T) {
	o, err := ParseOrder(`{"bundle":"https://updates.example.org/1.2.skidx","version":"1.2","allowDowngrade":true}`)
	if err != nil || o.Version != "1.2" || !o.AllowDowngrade || len(o.ID) != 16 {
		t.Errorf("got %+v, %v", o, err)
	}
	other, err := ParseOrder(`{"bundle":"https://updates.example.org/1.3.skidx"}`)
	if err != nil || other.ID == o.ID {
		t.Errorf("two orders have the id %s (%v)", other.ID, err)
	}
	for _, text := range []string{
		"", "yes", "{}", `{"bundle":"/etc/shadow"}`, `{"bundle":"http://x/y.skidx"}`, `{"bundle":"https://x","reboot":true}`,
		`{"bundle":"https://x","id":"` + strings.Repeat("x", 65) + `"}`, `{"bundle":"https://` + strings.Repeat("x", maxOrder) + `"}`,
	} {
		if o, err := ParseOrder(text); err == nil {
			t.Errorf("%.60s was read as %+v", text, o)
		}
	}
}

func FuzzParseOrder(f *testing.F) {
	f.Add(`{"bundle":"https://updates.example.org/1.2.skidx","version":"1.2"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if o, err := ParseOrder(text); err == nil && (o.ID == "" || o.Bundle == "" || len(o.ID) > 64) {
			t.Errorf("%q was read as %+v", text, o)
		}
	})
}

func TestWindow(t *testing.T) {
	at := func(clock string) time.Time {
		d, err := time.Parse(time.DateTime, "2026-03-01 "+clock+":00")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		window, at string
		open       bool
	}{
		{"", "12:00", true}, {"02:00-04:30", "02:00", true}, {"02:00-04:30", "04:29", true}, {"02:00-04:30", "04:30", false}, {"02:00-04:30", "01:59", false},
		{"22:00-04:00", "23:59", true}, {"22:00-04:00", "00:00", true}, {"22:00-04:00", "04:00", false}, {"22:00-04:00", "12:00", false},
	} {
		w, err := ParseWindow(c.window)
		if err != nil || w.Open(at(c.at)) != c.open {
			t.Errorf("%q at %s: open is %v, want %v (%v)", c.window, c.at, !c.open, c.open, err)
		}
	}
	w, err := ParseWindow("00:00-23:59")
	if err != nil || w.Open(time.Unix(3600, 0)) {
		t.Errorf("in 1970 the window is open (%v)", err)
	}
	for _, text := range []string{"2-4", "02:00", "02:00-24:30", "02:00-02:00", "always"} {
		if w, err := ParseWindow(text); err == nil {
			t.Errorf("%q was read as %+v", text, w)
		}
	}
}
