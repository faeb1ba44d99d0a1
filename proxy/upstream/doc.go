// Package upstream keeps the proxy's connections to the members of the store.
//
// It is not a balancer of a client library: it does not resolve names, does not retry and does not look into messages. It
// knows which connections work, gives them out in turn and says when one is lost, so that its callers can go on elsewhere.
//
// How data passes: Pool dials every endpoint once (lane) and again, with a pause that grows, whenever the connection is
// lost. Pick gives a Conn out: one whose member serves, in turn; else one whose member is at least reachable. On it the
// caller sends calls and opens streams raw, with metadata of its own (lean.Header), and is answered on the connection's
// reader; Kick has what was sent written soon, together with what others send meanwhile.
//
// A member is asked about itself from time to time, over the same connection. When it does not answer, has no leader or says
// that it does not serve, its Conn is set aside: it gets no new calls, those under way go on, and Aside tells who has streams
// on it and would rather have them elsewhere. It comes back when the member serves again. A connection that was silent for
// too long is closed.
//
// Invariants: a call accepted by a Conn ends exactly once, also when the connection is lost (package lean); a Conn that was
// lost stays lost; Pick never gives out a lost Conn knowingly; what a Pool holds is bounded by its list of endpoints.
package upstream
