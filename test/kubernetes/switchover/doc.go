// Package switchover moves the store of a running Kubernetes cluster from a real etcd to Quorate and back, with the files that operators
// use (deploy/switchover), and judges what clients see of it.
//
// There are two real API servers, HAProxy from Debian's package, TLS with client certificates everywhere. All the while there are writers
// (through the balancer, and past it as pods do), readers, informers and watches: nothing acknowledged may be lost, no watch may
// miss an event, see one twice or go back, and refused writes must say why. Pauses are measured and printed, not judged: how long they
// are is the machine's affair.
package switchover
