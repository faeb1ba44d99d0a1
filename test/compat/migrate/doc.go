// Package migrate compares "quorate migrate" with "etcdctl migrate" of Debian's etcd 3.4, on data directories that this etcd made.
//
// It is not where the verb is tested on its own (packages migrate and cli/migrating): here the judges are real programs. A Maker
// drives a cluster over HTTP with requests that follow from a seed; the directories that it leaves go to both programs, and what
// these write is compared record for record. Real servers and tools then open what ours has written.
package migrate
