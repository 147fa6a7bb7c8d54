package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry/skerry/firmware/wire/join"
)

// forged is a renewal with a certificate that somebody has made at now, who has kept the CA's key.
func forged(t *testing.T, ca *CA, now time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.issueNode("gw-1", key.Public(), now, time.Time{}, DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(join.Renewal{Certificate: cert.Raw, Proof: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestRetiredKeyIsWorthNothingInTheEnd: an old backup makes certificates that can be renewed for as long as honest ones could be, not
// for as long as the CA would have lived.
func TestRetiredKeyIsWorthNothingInTheEnd(t *testing.T) {
	client, now := fake.NewClientset(), time.Now()
	first, _, err := InitCA(t.Context(), client, now)
	if err != nil {
		t.Fatal(err)
	}
	must(BeginRotation(t.Context(), client, now))
	must(FinishRotation(t.Context(), client, now))
	ca := must(LoadCA(t.Context(), client))
	end := now.Add(MaxLifetime + DefaultAbsence)
	for _, c := range []struct {
		at time.Time
		ok bool
	}{{now.Add(day), true}, {end.Add(-day), true}, {end.Add(day), false}, {end.Add(5 * 365 * day), false}} {
		_, _, _, refusal := parseRenewal(forged(t, first, c.at), ca, c.at, DefaultAbsence)
		if (refusal == nil) != c.ok {
			t.Errorf("%v after it was retired: %v", c.at.Sub(now), refusal)
		}
		if refusal != nil && (refusal.Code != join.CodeBadCert || !strings.Contains(refusal.Message, first.Name()+", which was retired on "+now.UTC().Format(time.DateOnly))) {
			t.Errorf("the refusal is %v", refusal)
		}
		if _, _, _, refusal := parseRenewal(forged(t, ca, c.at), ca, c.at, DefaultAbsence); refusal != nil {
			t.Errorf("the CA that signs, %v later: %v", c.at.Sub(now), refusal)
		}
	}
	all := ca.All()
	if last := all[len(all)-1]; last.State != StateRetired || !last.Retired.Equal(now.UTC().Truncate(time.Second)) {
		t.Errorf("shown as %+v", last)
	}
}

// TestRetiredBeforeDates: Secrets of releases that wrote no dates are read, bound nothing until skerryctl looks at them, and are dated
// from then on; once.
func TestRetiredBeforeDates(t *testing.T) {
	client, now := fake.NewClientset(), time.Now()
	first, _, err := InitCA(t.Context(), client, now)
	if err != nil {
		t.Fatal(err)
	}
	must(BeginRotation(t.Context(), client, now))
	must(FinishRotation(t.Context(), client, now))
	secrets := client.CoreV1().Secrets(Namespace)
	s, err := secrets.Get(t.Context(), CASecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(s.Data[fieldRetired])
	if block == nil || block.Headers[headerRetired] != now.UTC().Format(time.RFC3339) {
		t.Fatalf("%s holds %s", fieldRetired, s.Data[fieldRetired])
	}
	s.Data[fieldRetired] = encodeCerts(first.cert)
	if _, err := secrets.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	undated := must(LoadCA(t.Context(), client))
	later := now.Add(5 * 365 * day)
	if _, _, _, refusal := parseRenewal(forged(t, first, later), undated, later, DefaultAbsence); refusal != nil {
		t.Errorf("retired at an unknown time: %v", refusal)
	}
	for _, at := range []time.Time{later, later.Add(365 * day)} {
		if _, created, err := InitCA(t.Context(), client, at); err != nil || created {
			t.Fatalf("created %v, %v", created, err)
		}
		dated := must(LoadCA(t.Context(), client))
		if !dated.retired[0].at.Equal(later.UTC().Truncate(time.Second)) || undated.same(dated) || !bytes.Equal(dated.cert.Raw, undated.cert.Raw) {
			t.Errorf("after skerryctl init at %v: %+v", at, dated.All())
		}
		end := later.Add(MaxLifetime + DefaultAbsence + day)
		if _, _, _, refusal := parseRenewal(forged(t, first, end), dated, end, DefaultAbsence); refusal == nil {
			t.Error("its certificates can be renewed without an end")
		}
	}
}
