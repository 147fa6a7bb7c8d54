// Package tickets shares the keys of TLS session tickets among the replicas of a relay, so that an agent that one of them
// drops resumes its TLS session at another, which costs both a fraction of a full handshake.
//
// The keys are in Secret skerry-system/skerry-ticket-keys, which `skerryctl init` makes empty. Whichever relay sees that the
// newest key is twelve hours old puts another in front and keeps three; of two that do so at once, the API server lets one
// through, because an update carries the resourceVersion that it was based on. A new key opens tickets at once and seals them
// once every relay has had the time to read it. Relays read the Secret once a minute.
//
// Usage: New, then Run; Options.Apply is given the keys whenever they change. Without the Secret a relay goes on with keys of its
// own: sessions then resume only at the relay that they were opened with. A Secret that goes away while relays run changes nothing
// at first; keys that are overdue are then replaced by each relay for itself. A damaged one gets new keys. Forget throws keys away
// that others may have.
//
// Who has these keys can forge tickets, in any node's name, as who has the CA's key can forge certificates: both lie in the same
// namespace, and are read by the same account. Revocation and expiry are checked on resumed sessions, too (relay/hub).
//
// Keys is safe for concurrent use. Tests use client-go's fake clientset and two stores that rotate at once; the parser is fuzzed.
// That a session of one relay resumes at another is tested in relay/hub.
package tickets
