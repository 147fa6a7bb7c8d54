package main

import (
	"strings"
	"testing"
)

func TestGuestReport(t *testing.T) {
	const console = "[    1.2] some driver\r\nSKERRY pss_kb=18261 rss_kb=18262 anon_kb=4100 connected=true devices=11 good=1032 mem_total_kb=111188 mem_available_kb=72617\r\n"
	found := guestReport.FindStringSubmatch(console)
	if found == nil || found[2] != "" {
		t.Fatalf("%q", found)
	}
	l := parseGuest(found[1])
	if !l.connected || l.devices != 11 || l.good != 1032 || l.pss < 18.69 || l.pss > 18.71 || l.total < 113.8 || l.available > 74.4 {
		t.Errorf("%+v", l)
	}
	for _, end := range []string{"SKERRY-FAILED skerryd ended", "Kernel panic - not syncing", "Out of memory: Killed process 61 (skerryd)"} {
		if found := guestReport.FindStringSubmatch("x\r\n" + end + "\r\n"); found == nil || !strings.HasPrefix(found[2], end) {
			t.Errorf("%s: %q", end, found)
		}
	}
	if l := parseGuest("pss_kb=noise rss_kb="); l != (guestLine{}) {
		t.Errorf("noise: %+v", l)
	}
}
