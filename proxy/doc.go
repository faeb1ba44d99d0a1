// Package proxy is "quorate proxy": a server that speaks the store's API to any number of clients and needs few connections,
// few watches and few identical reads of the store for it. Its flags and behaviour are those of etcd's grpc-proxy.
//
// It is not a cache: it keeps no answer, and decides nothing about permissions. Every request reaches the store with the
// credentials of the client that made it, and only requests that the store cannot tell apart, credentials included, share an
// answer. It is not a balancer for applications either; those connect to it, or to the members, with etcd's client.
//
// How data passes:
//
//	client -> rpc.Server -> forwarder (unary: errand, one call of package load/lean; identical reads: coalescer)
//	                     -> passage (streams, message by message)
//	                     -> fan.Hub (watches), keep.Keeper (keepalives of leases)
//	errand, passage, Hub, Keeper -> upstream.Pool -> members of the store
//
// Messages are passed on as they came. Only with a namespace are they looked into, as far as there are keys in them.
//
// Invariants: a call is sent to a second member only when the first certainly did not look at it; a client that gives up
// takes its call back; what a client can make the proxy hold is bounded by the rpc package's limits and by the constants here.
package proxy
