package grpcwire

import (
	"testing"
	"time"
)

func TestTimeoutHeader(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0n", 0: "0n", 1: "1n", 99_999_999: "99999999n", 100_000_000: "100000u", 100_000_001: "100001u",
		2 * time.Minute: "120000m", 30 * time.Hour: "108000S", 1<<63 - 1: "2562048H",
	} {
		if got := timeoutHeader(d); got != want || len(got) > 9 {
			t.Errorf("timeoutHeader(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestPercentDecode(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a%20b%0Ac": "a b\nc", "%C3%BC": "ü", "50%": "50%", "50%2": "50%2", "%zz%41": "%zzA", "%ff": "\uFFFD", "": "",
	} {
		if got := percentDecode(in); got != want {
			t.Errorf("percentDecode(%q) = %q, want %q", in, got, want)
		}
	}
}
