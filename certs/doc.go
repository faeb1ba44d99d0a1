// Package certs keeps the certificates of one member current and decides whom it talks to over TLS: it loads key pairs, CA
// bundles and revocation lists, loads them again when their files change, makes certificates for those who have none, and
// carries out handshakes so that a flood of them harms nobody else.
//
// It is not a certificate authority (what Make makes is trusted by nobody) and it knows nothing of what is said on a
// connection. It writes no log: what an operator must read is given to callbacks.
//
// How data passes: a Keeper holds the files of one side (clients, or other members) and publishes what they hold as one
// immutable value. Each handshake takes the value of its moment, having looked at the files if that was not done within
// limits.CertLook. Listen turns a listener into one that yields connections whose handshake is over; Client is the
// configuration of one outgoing connection.
//
// Invariants: a file that cannot be used changes nothing, and the last good one stays in use; every connection is judged by
// the same function, whether its session is new or resumed and whatever is served on the listener; no goroutine waits for a
// client longer than limits.HandshakeTimeout, and no more than limits.HandshakesPending do at a time on a listener.
package certs
