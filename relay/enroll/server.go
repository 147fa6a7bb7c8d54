package enroll

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/source"
)

// DefaultLifetime is how long a gateway's certificate is valid.
const DefaultLifetime = 90 * 24 * time.Hour

// MaxLifetime is the longest that a gateway's certificate can be valid: it bounds how long a revocation must be remembered, and
// how long certificates of a retired CA can be renewed.
const MaxLifetime = 365 * 24 * time.Hour

// requestTimeout bounds what one request may cost: a read and a write at the API server, and a signature.
const requestTimeout = 20 * time.Second

// Revoked is what a Server asks of the list of revoked nodes, which Revocations is. The methods do not block.
type Revoked interface {
	// Synced says whether the list is known; before that, nobody gets a certificate.
	Synced() bool
	// Refused says why a certificate of node that begins at issued is refused, "" if it is not.
	Refused(node string, issued time.Time) (reason string)
	// NotBefore is the time after which certificates of node must begin, zero if it does not matter.
	NotBefore(node string) time.Time
}

// nobodyRevoked is a list for servers without one.
type nobodyRevoked struct{}

func (nobodyRevoked) Synced() bool                     { return true }
func (nobodyRevoked) Refused(string, time.Time) string { return "" }
func (nobodyRevoked) NotBefore(string) time.Time       { return time.Time{} }

// Options configures a Server. Client and CA are required.
type Options struct {
	Client   kubernetes.Interface
	CA       func() *CA    // the one that signs now; Authority.CA, or CA.Always
	Revoked  Revoked       // default: no node is
	Lifetime time.Duration // of a gateway's certificate; default DefaultLifetime, at most MaxLifetime
	Absence  time.Duration // how long after its end a certificate can be renewed; default DefaultAbsence
	// PerSource is how many requests a second one source address may make, on average; default 5, with bursts of 20. Many
	// gateways may share an address behind NAT: they are told to come again, and do.
	PerSource float64
	// Renewals is how many certificates are renewed a second, on average; default 100, with bursts of twice that.
	Renewals float64
	Metrics  *metrics.Set // may be nil
	Log      *slog.Logger
	Now      func() time.Time // default time.Now
}

// Server answers POST /v1/enroll and POST /v1/renew.
type Server struct {
	opts     Options
	tokens   *Tokens
	joins    *limiter      // by source
	sources  *limiter      // of renewals, by source
	renewals *limiter      // by node
	gate     *gate         // of all renewals
	told     *limiter      // by source: what is logged of those that come too often
	slots    chan struct{} // requests being judged
}

// NewServer returns the handler. It keeps no state that another replica would need.
func NewServer(o Options) *Server {
	if o.Revoked == nil {
		o.Revoked = nobodyRevoked{}
	}
	if o.Absence <= 0 {
		o.Absence = DefaultAbsence
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Lifetime <= 0 {
		o.Lifetime = DefaultLifetime
	}
	o.Lifetime = min(o.Lifetime, MaxLifetime)
	if o.PerSource <= 0 {
		o.PerSource = 5
	}
	if o.Renewals <= 0 {
		o.Renewals = 100
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{
		opts: o, tokens: NewTokens(o.Client, o.Now),
		joins: newLimiter(o.PerSource, 20),
		// A renewal that is not proven costs less than the handshake before it, and a whole fleet may be behind one address.
		sources:  newLimiter(10*o.PerSource, 200),
		gate:     newGate(o.Renewals),
		renewals: newLimiter(renewalsPerSecond, renewalsBurst),
		told:     newLimiter(1.0/60, 1),
		slots:    make(chan struct{}, 16),
	}
}

// ServeHTTP takes a join.Request or a join.Renewal, and answers with a join.Response or a join.Refusal. The http.Server
// needs a ReadTimeout.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != join.Path && r.URL.Path != join.RenewPath {
		http.NotFound(w, r)
		return
	}
	from, limit := source.Of(r.RemoteAddr), s.joins
	if r.URL.Path == join.RenewPath {
		limit = s.sources
	}
	if !limit.allow(from, s.opts.Now()) {
		s.busy(w, r, from)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		s.refuse(w, r, "", http.StatusMethodNotAllowed, refuse(join.CodeBadRequest, "", "only POST is served here"))
		return
	}
	// Before a slot is taken: whoever sends slowly, for as long as the server's read timeout lets it, keeps nobody else out.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, join.MaxBody))
	if err != nil {
		s.refuse(w, r, "", http.StatusBadRequest, refuse(join.CodeBadRequest, "", "the request could not be read, or is larger than %d bytes", join.MaxBody))
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.busy(w, r, from)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	judge, done := s.enroll, "node joined"
	if r.URL.Path == join.RenewPath {
		done = "node renewed its certificate"
		judge = func(ctx context.Context, body []byte) (*join.Response, string, error) {
			return s.renew(ctx, r.TLS, body)
		}
	}
	resp, node, err := judge(ctx, body)
	if err != nil {
		s.fail(w, r, node, err)
		return
	}
	s.count(r, "signed")
	s.opts.Log.Info(done, "node", resp.Node, "source", from)
	s.write(w, http.StatusOK, resp)
}

// count counts answers; the codes are ours, so that their number is bounded.
func (s *Server) count(r *http.Request, result string) {
	what := "join"
	if r.URL.Path == join.RenewPath {
		what = "renewal"
	}
	s.opts.Metrics.GetOrCreateCounter(`skerry_relay_certificates_total{request="` + what + `",result="` + result + `"}`).Inc()
}

// busy tells of a source once a minute: there is no bound on how often somebody asks.
func (s *Server) busy(w http.ResponseWriter, r *http.Request, source string) {
	s.count(r, string(join.CodeBusy))
	if s.told.allow(source, s.opts.Now()) {
		s.opts.Log.Warn("request for a certificate refused", "path", r.URL.Path, "source", source, "code", join.CodeBusy,
			"reason", "too many requests from this address, or too many at once; further ones are counted, and logged once a minute")
	}
	w.Header().Set("Retry-After", "2")
	s.write(w, http.StatusTooManyRequests, refuse(join.CodeBusy, "try again in some seconds", "too many requests for certificates"))
}

// enroll judges one request. node is returned as far as it is known, for the log.
func (s *Server) enroll(ctx context.Context, body []byte) (resp *join.Response, node string, err error) {
	req, key, refusal := parseRequest(body)
	if refusal != nil {
		return nil, req.Node, refusal
	}
	if err := s.tokens.bind(ctx, req, keyHash(key)); err != nil {
		return nil, req.Node, err
	}
	// Only after the token is proven: whether a node is revoked is nobody else's business.
	if err := s.mayHave(req.Node, s.opts.Now()); err != nil {
		return nil, req.Node, err
	}
	resp, err = s.issue(s.opts.CA(), req.Node, key)
	return resp, req.Node, err
}

// parseRequest checks what the request shows by itself: its shape, and that its sender has the key.
func parseRequest(body []byte) (req join.Request, key *ecdsa.PublicKey, _ *join.Refusal) {
	if err := json.Unmarshal(body, &req); err != nil {
		return join.Request{}, nil, refuse(join.CodeBadRequest, "update the agent, or check what sends to this address", "the request is not a join request")
	}
	if !join.ValidID(req.TokenID) || len(req.Secret) != join.SecretSize {
		return join.Request{}, nil, refuse(join.CodeBadRequest, "", "the request has no token, or one of another format")
	}
	if len(validation.IsDNS1123Subdomain(req.Node)) > 0 {
		return join.Request{}, nil, refuse(join.CodeBadRequest, "", "the request names no node, or one that Kubernetes would not accept")
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return req, nil, refuse(join.CodeBadRequest, "", "the certificate request cannot be parsed")
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return req, nil, refuse(join.CodeBadKey, "", "the certificate request is not for an ECDSA P-256 key")
	}
	if err := csr.CheckSignature(); err != nil {
		return req, nil, refuse(join.CodeBadProof, "", "the certificate request is not signed by its own key")
	}
	return req, key, nil
}

// keyHash names a public key: SHA-256 of its SubjectPublicKeyInfo, in hex.
func keyHash(key *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil { // not for a key that was just parsed
		panic(err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, node string, err error) {
	var (
		refusal *join.Refusal
		later   *busy
	)
	if errors.As(err, &later) { // one of very many: it is counted
		s.count(r, string(later.Code))
		w.Header().Set("Retry-After", strconv.Itoa(int((later.after+time.Second-1)/time.Second)))
		s.write(w, later.Code.Status(), later.Refusal)
		return
	}
	if errors.As(err, &refusal) {
		s.refuse(w, r, node, refusal.Code.Status(), refusal)
		return
	}
	s.count(r, string(join.CodeUnavailable))
	s.opts.Log.Error("a request for a certificate could not be judged; the gateway will try again", "path", r.URL.Path, "node", node, "error", err)
	w.Header().Set("Retry-After", "5")
	s.write(w, join.CodeUnavailable.Status(), refuse(join.CodeUnavailable, "try again; the relay's log says more", "the relay cannot reach Kubernetes"))
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, node string, status int, refusal *join.Refusal) {
	s.count(r, string(refusal.Code))
	if refusal.Code.Temporary() {
		w.Header().Set("Retry-After", "5")
	}
	s.opts.Log.Warn("request for a certificate refused", "path", r.URL.Path, "node", node, "source", source.Of(r.RemoteAddr), "code", refusal.Code, "reason", refusal.Message)
	s.write(w, status, refusal)
}

func (s *Server) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.opts.Log.Debug("the answer to a request for a certificate was not taken", "error", err)
	}
}
