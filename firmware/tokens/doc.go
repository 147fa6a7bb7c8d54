// Package tokens keeps the service account tokens of this gateway's pods: it asks the relay for them, renews them in time,
// and has them ready after a reboot without a network.
//
//	k, err := tokens.Open(tokens.Options{Store: …, Dial: …, Connected: …})
//	go k.Run(ctx)
//	token, expires, err := k.Token(ctx, pod, "default", "", 3600)
//
// # How it works
//
// A token is known by pod (UID), service account, audience and lifetime. The first Token for one asks the relay and waits for the answer
// for a short while; from then on the token is there at once, and is renewed when four fifths of its life are over, or after 24 hours,
// whichever comes first, less up to a tenth so that a fleet does not ask at once. However often a token is asked for meanwhile, there is one request under way for it.
//
// Each token is kept as a local record of the store, which seals it; it is no part of what the relay compares. A token that has expired
// while there was no relay is still handed out, with its time: what the pod uses it for at the edge may accept it, and a pod must
// not stop for it. Forget removes what a pod had.
//
// A gateway's clock may be wrong, so a token's age is measured by the time that has passed since it came, and not by its own dates; only after a restart
// the clock has to do, and one that has gone back makes every token due.
//
// # Concurrency
//
// All methods of a Keeper may be called concurrently. Run asks for at most four tokens at a time, and has stopped all that it
// started when it returns.
//
// # Testing
//
// Unit tests run Keeper and an HTTP server on pipes in a bubble of virtual time. hil-tests/tokens has the real API server.
package tokens
