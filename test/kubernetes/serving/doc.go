// Package serving runs real API servers of Kubernetes, with real controllers, the real scheduler and nodes by kwok, on Quorate, and goes
// through what they need of a store, one step after the other. With -store=etcd the same steps run on a real etcd: it is the judge of the steps.
//
// It does not test Kubernetes, and does not measure: times that it prints are the machine's affair. Certificates are needed on every
// connection, authentication is on, and the API servers' user may touch what belongs to Kubernetes and nothing else.
//
// TestOneMember has one member and two API servers on it: one with its watch caches, as usual ("cached"), and one without ("direct"), whose
// every list and watch is the store's to answer, and through which others write what the cached one must know. TestThreeMembers
// has three members, and another store for events, and real pods in what Kubernetes believes.
package serving
