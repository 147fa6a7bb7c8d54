package pods

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// healthCheck is the method of gRPC's health checking protocol (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
const healthCheck = "/grpc.health.v1.Health/Check"

// grpcServing is the only status that is healthy.
const grpcServing = 1

// grpc asks a gRPC server in the pod for its health, without TLS, as Kubernetes' gRPC probes do.
func (a *caller) grpc(ctx context.Context, do *corev1.GRPCAction) error {
	addr := net.JoinHostPort(a.ip, strconv.Itoa(int(do.Port)))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true, MaxResponseHeaderBytes: maxProbeHeaders,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+healthCheck, bytes.NewReader(grpcRequest(do.Service)))
	if err != nil {
		return err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {userAgent("probe")}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %s: the port does not serve gRPC", resp.Status)
	}
	code, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if code == "" {
		code, message = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if code != "0" {
		return fmt.Errorf("gRPC status %q (%s): %s", code, grpcCode(code), message)
	}
	status, err := grpcHealth(body)
	if err != nil {
		return err
	}
	if status != grpcServing {
		return fmt.Errorf("service unhealthy (responded with %q)", map[uint64]string{0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}[status])
	}
	return nil
}

// grpcCode explains the status codes that servers without health, or without the service, answer with.
func grpcCode(code string) string {
	switch code {
	case "4":
		return "deadline exceeded"
	case "5":
		return "unknown service"
	case "12":
		return "the server does not implement the gRPC health checking protocol"
	case "14":
		return "unavailable"
	default:
		return "see gRPC's status codes"
	}
}

// grpcRequest is a HealthCheckRequest {string service = 1} with gRPC's message prefix.
func grpcRequest(service string) []byte {
	b := make([]byte, grpcPrefix, grpcPrefix+2+len(service)+binary.MaxVarintLen32)
	if service != "" {
		b = append(b, 1<<3|2)
		b = binary.AppendUvarint(b, uint64(len(service)))
		b = append(b, service...)
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-grpcPrefix)) //nolint:gosec // the API server bounds it
	return b
}

// grpcPrefix is the length of gRPC's message prefix: a compression flag and a length.
const grpcPrefix = 5

var errHealthAnswer = errors.New("the answer is not a HealthCheckResponse")

// grpcHealth reads a HealthCheckResponse {ServingStatus status = 1} with its prefix. Other fields are skipped.
func grpcHealth(b []byte) (status uint64, err error) {
	if len(b) < grpcPrefix || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-grpcPrefix) {
		return 0, errHealthAnswer
	}
	for b = b[grpcPrefix:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errHealthAnswer
		}
		b = b[n:]
		var skip uint64
		switch tag & 7 {
		case 0:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errHealthAnswer
			}
			if b = b[n:]; tag>>3 == 1 {
				status = v
			}
		case 1:
			skip = 8
		case 2:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errHealthAnswer
			}
			b, skip = b[n:], v
		case 5:
			skip = 4
		default:
			return 0, errHealthAnswer
		}
		if skip > uint64(len(b)) {
			return 0, errHealthAnswer
		}
		b = b[skip:]
	}
	return status, nil
}
