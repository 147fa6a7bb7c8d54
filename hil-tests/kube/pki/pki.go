// Package pki makes the certificates and keys of the development control
// plane: three certificate authorities, so that a certificate signed for one
// purpose opens nothing else, their leaves, and the key pair that signs
// service account tokens.
//
// Ensure is idempotent: what exists in the folder and still has more than a
// day to live is kept, so a kubeconfig handed out before a restart stays valid
// after it. A folder is written beside the final one and renamed into place;
// a kill half way leaves either nothing or everything.
//
// The package holds no state. Two processes must not call Ensure on the same
// folder at the same time; skerry-kube holds the lock of its state folder.
//
// Tested by verifying every leaf against its authority and usage, and by
// damaging and ageing the folder.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Names of the authorities and leaves; Dir.Cert and Dir.Key turn them into
// paths. The names are kubeadm's where kubeadm has one.
const (
	CA           = "ca"             // signs the API server and every user of it
	EtcdCA       = "etcd-ca"        // signs etcd and its one client
	FrontProxyCA = "front-proxy-ca" // signs the aggregation layer's client

	APIServer              = "apiserver"
	APIServerKubeletClient = "apiserver-kubelet-client"
	APIServerEtcdClient    = "apiserver-etcd-client"
	Etcd                   = "etcd-server"
	FrontProxyClient       = "front-proxy-client"
	ControllerManager      = "controller-manager"
	Scheduler              = "scheduler"
	Admin                  = "admin"
)

const (
	validity  = 10 * 365 * 24 * time.Hour // a development rig: nobody renews it
	minLeft   = 24 * time.Hour            // less than this left: make everything anew
	backdate  = time.Hour                 // clocks of VMs on the same host differ
	keyBlock  = "EC PRIVATE KEY"
	certBlock = "CERTIFICATE"
)

// leaf says who a certificate is for. Kubernetes takes the user name from the
// common name and the groups from the organizations.
type leaf struct {
	name, ca, commonName, organization string
	usages                             []x509.ExtKeyUsage
	hosts                              []string
}

var (
	client = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	server = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	both   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

func leaves(serviceIP string) []leaf {
	return []leaf{
		{name: APIServer, ca: CA, commonName: "kube-apiserver", usages: server, hosts: []string{
			"localhost", "127.0.0.1", "::1", serviceIP,
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		}},
		{name: APIServerKubeletClient, ca: CA, commonName: "kube-apiserver-kubelet-client", organization: "system:masters", usages: client},
		{name: ControllerManager, ca: CA, commonName: "system:kube-controller-manager", usages: client},
		{name: Scheduler, ca: CA, commonName: "system:kube-scheduler", usages: client},
		{name: Admin, ca: CA, commonName: "kubernetes-admin", organization: "system:masters", usages: client},
		{name: Etcd, ca: EtcdCA, commonName: "etcd", usages: both, hosts: []string{"localhost", "127.0.0.1"}},
		{name: APIServerEtcdClient, ca: EtcdCA, commonName: "kube-apiserver-etcd-client", usages: client},
		{name: FrontProxyClient, ca: FrontProxyCA, commonName: "front-proxy-client", usages: client},
	}
}

// Dir is a folder that Ensure has filled. It is a value and safe to share.
type Dir string

// Cert is the path of the PEM certificate of an authority or a leaf.
func (d Dir) Cert(name string) string { return filepath.Join(string(d), name+".crt") }

// Key is the path of the PEM private key (P-256) of an authority or a leaf.
func (d Dir) Key(name string) string { return filepath.Join(string(d), name+".key") }

// ServiceAccountKey is the path of the private key that signs service account tokens.
func (d Dir) ServiceAccountKey() string { return filepath.Join(string(d), "sa.key") }

// ServiceAccountPublic is the path of the public half of ServiceAccountKey.
func (d Dir) ServiceAccountPublic() string { return filepath.Join(string(d), "sa.pub") }

// Ensure fills path with every certificate and key, or keeps what is there if
// it is complete and has more than a day to live at now. serviceIP is the
// address of the service "kubernetes", one of the API server's names.
func Ensure(path, serviceIP string, now time.Time) (Dir, error) {
	d := Dir(path)
	usable, err := d.usable(serviceIP, now)
	if err != nil {
		return "", err
	}
	if usable {
		return d, nil
	}
	tmp := path + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return "", fmt.Errorf("clear the half-written folder of certificates: %w", err)
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of certificates: %w", err)
	}
	if err := Dir(tmp).fill(serviceIP, now); err != nil {
		return "", err
	}
	if err := os.RemoveAll(path); err != nil {
		return "", fmt.Errorf("replace the folder of certificates: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", fmt.Errorf("replace the folder of certificates: %w", err)
	}
	return d, nil
}

// usable is true if every file is there and every certificate verifies. A
// missing or damaged file is no error: everything is made anew.
func (d Dir) usable(serviceIP string, now time.Time) (bool, error) {
	for _, p := range []string{d.ServiceAccountKey(), d.ServiceAccountPublic()} {
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, fmt.Errorf("look for the service account key: %w", err)
		}
	}
	for _, l := range leaves(serviceIP) {
		ca, err := readCert(d.Cert(l.ca))
		if err != nil {
			return false, nil
		}
		cert, err := readCert(d.Cert(l.name))
		if err != nil {
			return false, nil
		}
		if _, err := os.Stat(d.Key(l.name)); err != nil {
			return false, nil
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now.Add(minLeft), KeyUsages: l.usages}); err != nil {
			return false, nil
		}
	}
	return true, nil
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (d Dir) fill(serviceIP string, now time.Time) error {
	cas := map[string]authority{}
	for _, name := range []string{CA, EtcdCA, FrontProxyCA} {
		ca, err := d.makeCA(name, now)
		if err != nil {
			return fmt.Errorf("make the authority %s: %w", name, err)
		}
		cas[name] = ca
	}
	for _, l := range leaves(serviceIP) {
		if err := d.makeLeaf(l, cas[l.ca], now); err != nil {
			return fmt.Errorf("make the certificate %s: %w", l.name, err)
		}
	}
	if err := d.makeServiceAccountKey(); err != nil {
		return fmt.Errorf("make the service account key: %w", err)
	}
	return nil
}

func (d Dir) makeCA(name string, now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	tmpl, err := template(pkix.Name{CommonName: "skerry-kube-" + name}, now)
	if err != nil {
		return authority{}, err
	}
	tmpl.IsCA = true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	return authority{cert, key}, d.write(name, der, key)
}

func (d Dir) makeLeaf(l leaf, ca authority, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	subject := pkix.Name{CommonName: l.commonName}
	if l.organization != "" {
		subject.Organization = []string{l.organization}
	}
	tmpl, err := template(subject, now)
	if err != nil {
		return err
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = l.usages
	for _, h := range l.hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		return err
	}
	return d.write(l.name, der, key)
}

func template(subject pkix.Name, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               subject,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validity),
		BasicConstraintsValid: true,
	}, nil
}

func (d Dir) makeServiceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(d.ServiceAccountKey(), key); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return os.WriteFile(d.ServiceAccountPublic(), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
}

func (d Dir) write(name string, der []byte, key *ecdsa.PrivateKey) error {
	if err := writeKey(d.Key(name), key); err != nil {
		return err
	}
	return os.WriteFile(d.Cert(name), pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}), 0o600)
}

// writeKey uses SEC 1, the only EC form that every Kubernetes flag accepts.
func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), 0o600)
}

func readCert(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != certBlock {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return x509.ParseCertificate(block.Bytes)
}
