package mqtt

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// afterRefusal is how long whoever could not prove who he is waits for the answer. His place among the strangers is taken as long, which bounds how often
// passwords are tried.
const afterRefusal = 2 * time.Second

const maxClientID = 256

// certificateNames are the names that a verified certificate proves.
func certificateNames(c *x509.Certificate) []string {
	names := append([]string{c.Subject.CommonName}, c.DNSNames...)
	names = append(names, c.EmailAddresses...)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

// identify finds out who connects: by his certificate, by user name and password, or, where that is configured and he is local, as the anonymous identity.
func (b *Broker) identify(c *conn, pk *packets.ConnectParams) (*Identity, error) {
	user := string(pk.Username)
	for _, name := range c.from.names {
		for i := range b.opt.Identities {
			id := &b.opt.Identities[i]
			if id.Certificate != name {
				continue
			}
			if pk.UsernameFlag && user != "" && user != id.Name {
				return nil, fmt.Errorf("the certificate is that of %q, and the user name says %q", id.Name, clip(user))
			}
			return id, nil
		}
	}
	if !pk.UsernameFlag || user == "" {
		switch {
		case len(c.from.names) > 0:
			return nil, fmt.Errorf("no identity has the certificate name %q", clip(c.from.names[0]))
		case b.opt.Anonymous == "":
			return nil, errors.New("no user name, and mqtt.anonymous is not set")
		case !c.from.local:
			return nil, errors.New("no user name: mqtt.anonymous is for loopback and the Unix socket only")
		}
		return b.byName(b.opt.Anonymous), nil
	}
	id := b.byName(user)
	ok, err := b.passwords.check(user, pk.Password)
	switch {
	case err != nil:
		return nil, err
	case id == nil || !ok:
		return nil, fmt.Errorf("user %q: wrong password, or no such user in mqtt.passwordFile and mqtt.identities", clip(user))
	}
	return id, nil
}

func (b *Broker) byName(name string) *Identity {
	for i := range b.opt.Identities {
		if b.opt.Identities[i].Name == name {
			return &b.opt.Identities[i]
		}
	}
	return nil
}

// enter decides whether a client may have the session that it asks for.
func (b *Broker) enter(cl *mochi.Client, c *conn, pk *packets.ConnectParams) error {
	id, err := b.identify(c, pk)
	if err != nil {
		return err
	}
	if id == nil {
		return errors.New("mqtt.anonymous names no identity")
	}
	if len(cl.ID) > maxClientID || !utf8.ValidString(cl.ID) || cl.ID == mochi.InlineClientId {
		return fmt.Errorf("%s: the client identifier is not allowed: 1 to %d bytes of UTF-8, and not %q", id.Name, maxClientID, mochi.InlineClientId)
	}
	if pk.WillFlag && !id.mayPublish(pk.WillTopic) {
		return fmt.Errorf("%s may not publish its will on %q", id.Name, clip(pk.WillTopic))
	}
	if pk.WillFlag && len(pk.WillPayload) > b.opt.Limits.Payload {
		return fmt.Errorf("%s: the will has %d bytes; mqtt.limits.payload allows %d", id.Name, len(pk.WillPayload), b.opt.Limits.Payload)
	}
	if err := b.owners.claim(cl.ID, id.Name, b.opt.Limits); err != nil {
		return fmt.Errorf("%s: %w", id.Name, err)
	}
	c.session = cl.ID
	c.identity.Store(id)
	return nil
}
