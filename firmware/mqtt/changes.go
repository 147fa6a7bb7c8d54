package mqtt

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// documentGap is the shortest time between two documents of a device: one tells of all that changed.
const documentGap = 200 * time.Millisecond

// changes notes which devices have changed until somebody looks. It is safe for concurrent use.
type changes struct {
	mu    sync.Mutex
	dirty map[string]bool // NAMESPACE/NAME
	c     chan struct{}
}

func newChanges() *changes {
	return &changes{dirty: make(map[string]bool), c: make(chan struct{}, 1)}
}

func (c *changes) note(namespace, name string) {
	c.mu.Lock()
	c.dirty[namespace+"/"+name] = true
	c.mu.Unlock()
	select {
	case c.c <- struct{}{}:
	default:
	}
}

func (c *changes) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]string, 0, len(c.dirty))
	for id := range c.dirty {
		out = append(out, id)
	}
	clear(c.dirty)
	slices.Sort(out)
	return out
}

// tellChanges publishes documents of devices, for those that somebody hears, and the node's membership.
func (b *Broker) tellChanges(ctx context.Context) {
	stop := b.opt.Devices.Watch(func(namespace, name, _ string, _ device.Value) { b.changes.note(namespace, name) })
	defer stop()
	last := make(map[string]map[string]*msgTwin) // of devices whose documents are heard
	members := b.opt.Members.List()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.opt.Members.C():
			members = b.tellMembers(members)
			for id := range last {
				if !slices.Contains(members, id) {
					delete(last, id)
				}
			}
		case <-b.changes.c:
			for _, id := range b.changes.take() {
				b.tellDocument(id, last)
			}
			select { // what comes meanwhile is one document
			case <-ctx.Done():
				return
			case <-time.After(documentGap):
			}
		}
	}
}

func (b *Broker) tellMembers(before []string) []string {
	after := b.opt.Members.List()
	var m membershipChange
	m.base = now("")
	m.Added, m.Removed = b.members(without(after, before)), b.members(without(before, after))
	if len(m.Added)+len(m.Removed) > 0 {
		b.publish(nodeTopic(b.opt.Node, "updated"), m)
	}
	return after
}

func without(all, known []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(known, s) })
}

// tellDocument tells what is different since the last document. The first one that is heard tells what there is.
func (b *Broker) tellDocument(id string, last map[string]map[string]*msgTwin) {
	namespace, name, _ := strings.Cut(id, "/")
	topic := deviceTopic(namespace, name, "twin/update/document")
	if !b.heard(topic) {
		delete(last, id)
		return
	}
	st, ok := b.opt.Devices.Device(namespace, name)
	if !ok {
		return
	}
	doc := documentMessage{now(""), make(map[string]change)}
	current := shown(&st)
	for property, t := range current {
		before := last[id][property]
		if before == nil || !reflect.DeepEqual(before, t) {
			doc.Twin[property] = change{before, t}
		}
	}
	last[id] = current
	if len(doc.Twin) > 0 {
		b.publish(topic, doc)
	}
}

// deliver tells a device that speaks MQTT what it should show; nobody who hears that is an error.
func (b *Broker) deliver(id string, delta map[string]string) error {
	namespace, name, _ := strings.Cut(id, "/")
	topic := deviceTopic(namespace, name, "twin/update/delta")
	if !b.heard(topic) {
		return device.Unreachable("nobody is subscribed to %s", topic)
	}
	twins := make(map[string]*msgTwin, len(delta))
	for property, v := range delta {
		value := text(v)
		twins[property] = &msgTwin{Expected: &twinValue{Value: &value}}
	}
	b.publish(topic, deltaMessage{base: now(""), Twin: twins, Delta: delta})
	return nil
}
