package push

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"

	"go.yaml.in/yaml/v3"
)

// credential is what the gateway's file of credentials says of one address.
type credential struct {
	Address     string            `yaml:"address"` // scheme://host:port, as in the manifest
	Username    string            `yaml:"username"`
	Password    string            `yaml:"password"`
	Token       string            `yaml:"token"`
	Headers     map[string]string `yaml:"headers"`
	CA          string            `yaml:"ca"`          // file of certificates that may sign the server's; "": the system's
	Certificate string            `yaml:"certificate"` // file of the client's certificate
	Key         string            `yaml:"key"`         // file of its key
	ServerName  string            `yaml:"serverName"`  // name in the server's certificate, if it is not the address'
}

const maxCredentials = 256 << 10

// findCredential reads the file and returns what it says of an address; nothing if there is no file, or nothing of this address in it. The file is read whenever a target is
// connected to, so that what is changed in it counts with the next attempt.
func findCredential(file, address string) (credential, error) {
	none := credential{Address: address}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) || file == "" {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("open the credentials: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return none, fmt.Errorf("look at the credentials %s: %w", file, err)
	} else if st.Mode().Perm()&0o077 != 0 {
		return none, fmt.Errorf("the credentials %s may be read by others (mode %o): chmod 600 %s", file, st.Mode().Perm(), file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err != nil {
		return none, fmt.Errorf("read the credentials: %w", err)
	}
	if len(b) > maxCredentials {
		return none, fmt.Errorf("the credentials %s are larger than %d bytes", file, maxCredentials)
	}
	all, err := parseCredentials(b)
	if err != nil {
		return none, fmt.Errorf("the credentials %s: %w", file, err)
	}
	for _, c := range all {
		if c.Address == address {
			return c, nil
		}
	}
	return none, nil
}

func parseCredentials(b []byte) ([]credential, error) {
	var file struct {
		Targets []credential `yaml:"targets"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for i, c := range file.Targets {
		u, err := url.Parse(c.Address)
		if err != nil || u.Scheme == "" || u.Port() == "" || u.Hostname() == "" || u.Path != "" || u.User != nil {
			return nil, fmt.Errorf("targets[%d].address: %q: allowed: SCHEME://HOST:PORT, as `skerryd status` shows it", i, c.Address)
		}
		if (c.Certificate == "") != (c.Key == "") {
			return nil, fmt.Errorf("targets[%d] (%s): certificate and key go together", i, c.Address)
		}
	}
	return file.Targets, nil
}

// tls returns the settings for a connection to address.
func (c credential) tls(address string) (*tls.Config, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if c.ServerName != "" {
		out.ServerName = c.ServerName
	}
	if c.CA != "" {
		b, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca of %s: %w", c.Address, err)
		}
		if out.RootCAs = x509.NewCertPool(); !out.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("ca of %s: %s holds no certificate in PEM form", c.Address, c.CA)
		}
	}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", c.Address, err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
