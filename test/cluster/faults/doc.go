// Package faults drives a cluster of real processes with etcd's own client while things go wrong on purpose, records what
// every client asked and was answered, and has internal/check decide whether it can be true.
//
// It is not a benchmark: clients are paced, so that a history stays small enough to be judged.
//
// A run is made from a seed: it chooses the size of the cluster, the load and the faults with their times. What the
// processes and the kernel make of it is not repeatable, so a seed is where to look first, not a proof; a run that finds
// something keeps its history, which can be judged again.
//
// Peers and clients reach a member through a Proxy of its own, which knows who connects, and so can cut, stall or delay each
// direction between two processes by itself. With network namespaces the same is done to packets instead (package netns).
package faults
