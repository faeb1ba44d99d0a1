// Package k8s puts on a store the traffic of a Kubernetes cluster of so many nodes and pods, as the API servers send it, and
// measures whether the store keeps the cluster's service levels: latency of calls by verb and resource, delivery of events to the
// API servers' watches, answers to progress requests, errors.
//
// It is not an API server and not a client of one: it speaks to etcd's API only, with objects that were encoded beforehand
// (objects.gz, made by gen from k8s.io/api), and it checks of the store what an API server relies on: that every acknowledged
// write is there, that every event comes, and that a progress notification comes after all events before it.
//
// How data passes: Run fills the store and then measures, in one or more runs, with one driver. The driver is one goroutine that
// owns the state of all objects and an agenda: what is due when. It sends calls over links, one connection for each API server and
// resource, as API servers have. A call's answer comes on the connection's reader, which records its latency and puts the outcome
// into the inbox of the driver. Each link has a watcher, which counts and times events. A report says what a run measured and judges it.
//
// Invariants: an open loop: what is due starts when it is due whether or not the store keeps up, and latency counts from the instant
// it was due (a write that needs the answer of another is due when that has come); an object has at most one write under way; memory
// depends on the number of objects and the bounds in limits.go, not on what the store does.
package k8s
