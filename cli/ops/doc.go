// Package ops is what an operator needs at three in the morning, and etcdctl does not have: status, doctor, top, du and history.
//
// It is not monitoring and it repairs nothing: it looks, says what is wrong and what to do. It knows servers by their API alone
// (gRPC, /metrics, and GET /quorate/... of our own servers), so that all of it but top works against etcd, too.
//
// How data passes: a verb gathers what the members say, all at once and with a bound on the time of each, into a Cluster; examine
// turns a Cluster into Findings; a screen writes both for people, and encoding/json for programs.
//
// Invariants: nothing is written to the store, and nothing is read from it in a way that a busy cluster feels: pages are small
// and serializable. A member that does not answer is shown as such, and holds nobody up. A number that is shown was measured.
// Text from the store never reaches a terminal raw.
package ops
