// Package keep renews the leases of many clients on few streams to the store: one for clients with equal credentials, and one
// renewal for all clients that ask for the same lease meanwhile.
//
// It is not a lease keeper: it renews when clients ask and only then, and answers with the store's own bytes.
//
// How data passes: a client's stream is a session of the feed of its credentials. A request for a lease is sent on the feed's
// upstream stream, unless one for that lease is under way: then it waits for the next one, with all others that come meanwhile,
// since an answer to a request from before says nothing about later. An answer goes to every session that waited for it.
//
// Invariants: each request of a client gets one answer, or the stream ends; requests that were under way when the upstream
// stream was lost are sent again on the next one, which is safe because renewing twice is renewing; an error of the store ends
// the streams of those who asked for the lease that the store was busy with and no others; what a session can make the feed
// hold is bounded by requestsMax.
package keep
